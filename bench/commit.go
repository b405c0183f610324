package main

import (
	"context"
	"os/exec"
	"strings"
)

// describeCommit names the commit that is checked out in dir. It asks git, because the build
// information lacks the commit with -buildvcs=false in GOFLAGS and in a linked worktree, whose
// .git is a file. Changes in docs/ do not count as uncommitted changes, because earlier
// measurements write tables there.
func describeCommit(ctx context.Context, dir string) string {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	name, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil { // git is missing, or dir is not a repository
		return "an unknown commit"
	}
	if changed, err := git("status", "--porcelain", "--", ":/", ":(top,exclude)docs"); err != nil || changed != "" {
		return "commit " + name + " with uncommitted changes"
	}
	return "commit " + name
}
