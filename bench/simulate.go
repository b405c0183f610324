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

// at says to start_simulation where a hub is.
func at(addr string) []string { return []string{"-addr=127.0.0.1", "-port=" + portOf(addr)} }

// simulated is what is read of a simulation's results.
type simulated struct {
	Seconds    float64 `json:"transfer_seconds"`
	Deliveries uint64  `json:"deliveries"`
	Complete   bool    `json:"complete"`
}

// simulate runs start_simulation to its end, as a user would, with flags that say where the hub
// is. One that is not satisfied is an error.
func simulate(ctx context.Context, p *programs, s pattern, flags ...string) (*measured, error) {
	file := filepath.Join(p.dir, "simulation.json")
	cmd := exec.CommandContext(ctx, p.path("start_simulation"), append([]string{
		"-i=0", "-stat=false", "-json=" + file, "-timeout=2m",
		"-ncli=" + strconv.Itoa(s.clients), "-nmex=" + strconv.Itoa(s.messages), "-size=" + strconv.Itoa(s.size), "-verify=" + s.verify,
	}, flags...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("simulation: %w\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var result simulated
	if err := json.Unmarshal(b, &result); err != nil {
		return nil, err
	}
	if want := s.deliveries(); !result.Complete || result.Deliveries != want {
		return nil, fmt.Errorf("simulation got %d of %d deliveries\n%s", result.Deliveries, want, out)
	}
	return &measured{
		Seconds: result.Seconds, Deliveries: result.Deliveries, Expected: result.Deliveries, LoadCPU: cpuOf(cmd),
	}, nil
}
