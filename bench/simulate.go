package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// addrFlags returns the flags of start_simulation for the address of a hub.
func addrFlags(addr string) []string { return []string{"-addr=127.0.0.1", "-port=" + portOf(addr)} }

// simulationResult is the part of a simulation's JSON result that bench reads.
type simulationResult struct {
	Seconds    float64 `json:"transfer_seconds"`
	Deliveries uint64  `json:"deliveries"`
	Complete   bool    `json:"complete"`
}

// simulate runs start_simulation as a user would, with flags for the address of the hub. A
// simulation that fails is an error.
func simulate(ctx context.Context, p *programs, wl workload, flags ...string) (*measurement, error) {
	file := filepath.Join(p.dir, "simulation.json")
	cmd := exec.CommandContext(ctx, p.path("start_simulation"), append([]string{
		"-i=0", "-stat=false", "-json=" + file, "-timeout=2m",
		"-ncli=" + strconv.Itoa(wl.clients), "-nmex=" + strconv.Itoa(wl.messages), "-size=" + strconv.Itoa(wl.size), "-verify=" + wl.verify,
	}, flags...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("simulation: %w\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var result simulationResult
	if err := json.Unmarshal(b, &result); err != nil {
		return nil, err
	}
	if want := wl.deliveries(); !result.Complete || result.Deliveries != want {
		return nil, fmt.Errorf("simulation got %d of %d deliveries\n%s", result.Deliveries, want, out)
	}
	return &measurement{
		Seconds: result.Seconds, Deliveries: result.Deliveries, Expected: result.Deliveries, LoadCPU: processCPUSeconds(cmd),
	}, nil
}
