package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestDescribeCommit_Worktree describes the commit of a repository and of a linked worktree.
func TestDescribeCommit_Worktree(t *testing.T) {
	repository := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		args = append([]string{"-C", repository, "-c", "user.name=test", "-c", "user.email=test@example.com"}, args...)
		if out, err := exec.CommandContext(t.Context(), "git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	check := func(dir, want string) {
		t.Helper()
		if got := describeCommit(t.Context(), dir); !regexp.MustCompile(`^` + want + `$`).MatchString(got) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	check(repository, "an unknown commit")
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "--no-verify", "-m", "first")
	check(repository, "commit [0-9a-f]{12}")
	worktree := filepath.Join(t.TempDir(), "worktree")
	git("worktree", "add", "-q", worktree)
	check(worktree, "commit [0-9a-f]{12}")
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(worktree, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(worktree, "docs"), 0o755); err != nil {
		t.Fatal(err)
	}
	write("docs/table")
	check(worktree, "commit [0-9a-f]{12}")
	write("file")
	check(worktree, "commit [0-9a-f]{12} with uncommitted changes")
}
