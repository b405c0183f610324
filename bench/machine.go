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

// machineSection is the section of a page that describes the machine.
const machineSection = "machine"

// clientLibraries are, by system, the modules of the client libraries in the load program.
var clientLibraries = map[string]string{
	"nats":      "github.com/nats-io/nats.go",
	"redis":     "github.com/redis/go-redis/v9",
	"mosquitto": "github.com/eclipse/paho.mqtt.golang",
}

// describeMachine describes the machine and the versions of the systems under measurement.
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

// provenance describes when, at which commit and on which processor the figures are measured.
// Each section of a page has its own provenance, because sections are measured at different
// commits.
func (b *bench) provenance(now time.Time) (string, error) {
	processor, err := processorName()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Measured on %s at %s, on %d cores of %s.",
		now.Format("2 January 2006"), b.programs.commit, runtime.NumCPU(), processor), nil
}

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

// kernelRelease returns the version of a kernel without the suffix of the distribution.
func kernelRelease(kernel []byte) string {
	version, _, _ := strings.Cut(strings.TrimSpace(string(kernel)), "-")
	return version
}

// serverVersion returns the version of a system's server: the version of its module if it is
// built here, otherwise the version that the program prints.
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
		flag = "-h" // prints the version but exits with an error, therefore the error is ignored
	}
	out, _ := exec.CommandContext(ctx, path, flag).CombinedOutput()
	version := versionPattern.Find(out)
	if version == nil {
		return "", fmt.Errorf("%s %s prints no version: %q", path, flag, out)
	}
	return string(version), nil
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+)+`)

// processorName returns the kernel's name of the processor.
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
	return "an unnamed processor", nil
}
