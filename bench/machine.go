package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// machineSection is the section of a page that says where the figures are from.
const machineSection = "machine"

// clientLibraries are the modules through which the load program drives the systems.
var clientLibraries = map[string]string{
	"nats":      "github.com/nats-io/nats.go",
	"redis":     "github.com/redis/go-redis/v9",
	"mosquitto": "github.com/eclipse/paho.mqtt.golang",
}

// describeMachine says where and of what the figures are.
func (b *bench) describeMachine(ctx context.Context) (string, error) {
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	processor, err := processorName()
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("%s, Linux %s, %d cores of %s, %s.",
		time.Now().Format("January 2006"), kernelRelease(kernel), runtime.NumCPU(), processor,
		strings.Replace(runtime.Version(), "go", "Go ", 1))
	load, err := buildinfo.ReadFile(b.programs.path("load"))
	if err != nil {
		return "", err
	}
	for _, system := range b.systems {
		for _, module := range load.Deps {
			if module.Path == clientLibraries[system] {
				version, err := serverVersion(ctx, system)
				if err != nil {
					return "", err
				}
				text += fmt.Sprintf(" %s %s through %s %s.", system, version, module.Path, module.Version)
			}
		}
	}
	return text + "\n", nil
}

// provenance says what was measured, when and on what: a page is measured piece by piece, and the
// code moves on between two of them.
func (b *bench) provenance(now time.Time) (string, error) {
	processor, err := processorName()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Measured on %s at %s, on %d cores of %s.",
		now.Format("2 January 2006"), b.programs.commit, runtime.NumCPU(), processor), nil
}

// describeCommit names the commit that is checked out in a folder. It asks git: what a build records of
// it is switched off by -buildvcs=false in GOFLAGS, and missing in a linked worktree, whose .git is
// a file. Changes in docs/ do not count: the tables that were measured before are some.
func describeCommit(ctx context.Context, dir string) string {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	name, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil { // no git, or an archive
		return "an unknown commit"
	}
	if changed, err := git("status", "--porcelain", "--", ":/", ":(top,exclude)docs"); err != nil || changed != "" {
		return "commit " + name + " with uncommitted changes"
	}
	return "commit " + name
}

// kernelRelease returns the version of a kernel without what its builder has added.
func kernelRelease(kernel []byte) string {
	version, _, _ := strings.Cut(strings.TrimSpace(string(kernel)), "-")
	return version
}

// serverVersion returns the version of a peer's server: of the one that is built
// here, that of its module; of another one, what it says itself.
func serverVersion(ctx context.Context, system string) (string, error) {
	if system == "nats" {
		out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", natsServerModule).Output()
		return strings.TrimSpace(string(out)), err
	}
	path, err := findProgram(findSystem(system).program)
	if err != nil {
		return "", err
	}
	flag := "--version"
	if system == "mosquitto" {
		flag = "-h" // which tells it too, as if it were a mistake: hence no look at the error
	}
	out, _ := exec.CommandContext(ctx, path, flag).CombinedOutput()
	version := versionPattern.Find(out)
	if version == nil {
		return "", fmt.Errorf("%s %s does not tell a version: %q", path, flag, out)
	}
	return string(version), nil
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+)+`)

// processorName returns what the kernel calls the processor.
func processorName() (string, error) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.Join(strings.Fields(value), " "), nil
		}
	}
	return "a processor without a name", nil
}
