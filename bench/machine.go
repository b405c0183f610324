package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// machineSection is the section of a page that describes the machine.
const machineSection = "machine"

// describeMachine describes the machine and the versions of the systems under measurement.
func describeMachine(ctx context.Context, p *programs, systems []string) (string, error) {
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
	load, err := buildinfo.ReadFile(p.path("load"))
	if err != nil {
		return "", err
	}
	for _, system := range systems {
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

// describeProvenance describes when, at which commit and on which processor the figures are
// measured. Each section of a page has its own provenance, because sections are measured at
// different commits.
func describeProvenance(commit string, now time.Time) (string, error) {
	processor, err := processorName()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Measured on %s at %s, on %d cores of %s.",
		now.Format("2 January 2006"), commit, runtime.NumCPU(), processor), nil
}

// kernelRelease returns the version of a kernel without the suffix of the distribution.
func kernelRelease(kernel []byte) string {
	version, _, _ := strings.Cut(strings.TrimSpace(string(kernel)), "-")
	return version
}

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
