package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// programs are the executables that are run, in a folder of their own, which also
// takes the servers' files.
type programs struct {
	dir    string
	commit string // that those of the hub were built from, in words
}

// sources are the programs that are built here, each with its package. Those of
// the hub are built in its own module, as an operator would, the others in this
// one, which pins their versions.
var sources = []struct {
	name, pkg string
	hub       bool
	system    string // only for this one; "" is for all
}{
	{name: "start_server", pkg: "./cmd/start_server", hub: true},
	{name: "start_simulation", pkg: "./cmd/start_simulation", hub: true},
	{name: "limit", pkg: "github.com/sechlol/go-message-hub/bench/limit"},
	{name: "load", pkg: "github.com/sechlol/go-message-hub/bench/load"},
	{name: "nats-server", pkg: natsServerModule, system: "nats"},
}

// natsServerModule is the module of nats-server, whose root is the program.
const natsServerModule = "github.com/nats-io/nats-server/v2"

// build makes the programs that the systems need.
func build(ctx context.Context, systems []string) (*programs, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/sechlol/go-message-hub").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module under measurement: %w", err)
	}
	root := strings.TrimSpace(string(out))
	dir, err := os.MkdirTemp("", "hub-bench-")
	if err != nil {
		return nil, err
	}
	p := &programs{dir, describeCommit(ctx, root)}
	for _, program := range sources {
		if program.system != "" && !slices.Contains(systems, program.system) {
			continue
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-o", p.path(program.name), program.pkg)
		if program.hub {
			cmd.Dir = root
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			p.remove()
			return nil, fmt.Errorf("build %s: %w\n%s", program.name, err, out)
		}
	}
	return p, nil
}

func (p *programs) path(name string) string { return filepath.Join(p.dir, name) }

func (p *programs) remove() { os.RemoveAll(p.dir) }

// writeFile puts a server's configuration into the folder and returns its path.
func (p *programs) writeFile(name, text string) (string, error) {
	return p.path(name), os.WriteFile(p.path(name), []byte(text), 0o644)
}

// findProgram returns the path of a program that the system's packages bring: from
// PATH, or from where they put servers, which is not in everybody's PATH.
func findProgram(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", errors.New(name + " is not installed: apt-get install mosquitto redis-server brings both peers; " +
		"it also starts a service of each, which is not used here and may be disabled")
}
