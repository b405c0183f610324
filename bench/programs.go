package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// programs are the executables under measurement, in a temporary folder that also holds the
// files of the servers.
type programs struct {
	dir    string
	commit string // describes the commit that the hub's programs were built from
}

// sources are the programs that bench builds, each with its package. The hub's programs are
// built in the hub's module, as an operator builds them. The others are built in this module,
// which pins their versions.
var sources = []struct {
	name, pkg string
	hub       bool
	onlyFor   string // the system that needs it; "" for all
}{
	{name: "start_server", pkg: "./cmd/start_server", hub: true},
	{name: "start_simulation", pkg: "./cmd/start_simulation", hub: true},
	{name: "limit", pkg: "github.com/sechlol/go-message-hub/bench/limit"},
	{name: "load", pkg: "github.com/sechlol/go-message-hub/bench/load"},
	{name: "chat", pkg: "github.com/sechlol/go-message-hub/bench/chat", onlyFor: "chat"},
	{name: "clusterkill", pkg: "github.com/sechlol/go-message-hub/bench/clusterkill", onlyFor: "nats"},
	{name: "nats-server", pkg: natsServerModule, onlyFor: "nats"},
}

// natsServerModule is the module of nats-server; its root package is the program.
const natsServerModule = "github.com/nats-io/nats-server/v2"

// build builds the programs that the needed systems have.
func build(ctx context.Context, needed []string) (*programs, error) {
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
		if program.onlyFor != "" && !slices.Contains(needed, program.onlyFor) {
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

// writeFile writes a configuration file into the folder and returns its path.
func (p *programs) writeFile(name, text string) (string, error) {
	return p.path(name), os.WriteFile(p.path(name), []byte(text), 0o644)
}
