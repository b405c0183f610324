package simulation

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/server"
	"github.com/sechlol/go-message-hub/internal/simulation"
)

// smallLoad are the flags of a simulation that takes milliseconds.
var smallLoad = []string{"-size=1024", "-ncli=5", "-nmex=20", "-i=0"}

func TestSimulation_OnServer(t *testing.T) {
	s, port := programtest.StartServer(t, server.Run)
	got := programtest.Run(Run, append(smallLoad, "-addr=127.0.0.1", "-port="+port)...)
	if got.Code != command.ExitOK {
		t.Fatalf("exit code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	for _, want := range []string{"400 of 400", "Clients Connected:", "Latency p99:"} {
		if !strings.Contains(got.Stdout, want) {
			t.Errorf("the report does not contain %q:\n%s", want, got.Stdout)
		}
	}
	if strings.Contains(got.Stdout, "inside this program") {
		t.Errorf("reports an embedded hub:\n%s", got.Stdout)
	}
	s.Interrupt()
}

func TestSimulation_Embedded(t *testing.T) {
	for _, verify := range []string{"full", "header", "off"} {
		got := programtest.Run(Run, append(smallLoad, "-embed", "-verify="+verify)...)
		if got.Code != command.ExitOK || got.Stderr != "" {
			t.Fatalf("%s: exit code %d\n%s%s", verify, got.Code, got.Stdout, got.Stderr)
		}
		for _, want := range []string{"400 of 400", "The hub inside this program:", "Delivered:"} {
			if !strings.Contains(got.Stdout, want) {
				t.Errorf("%s: does not contain %q:\n%s", verify, want, got.Stdout)
			}
		}
	}
}

func TestSimulation_StatOff(t *testing.T) {
	got := programtest.Run(Run, append(smallLoad, "-embed", "-stat=false")...)
	if got.Code != command.ExitOK || strings.Contains(got.Stdout, "Clients Connected") {
		t.Errorf("exit code %d, stdout %s", got.Code, got.Stdout)
	}
}

func TestSimulation_Terminal(t *testing.T) {
	var stdout, stderr programtest.Output
	code := Run(command.Process{Args: append(smallLoad, "-embed"), Stdout: &stdout, Stderr: &stderr, Terminal: true})
	if code != command.ExitOK || !strings.Contains(stdout.String(), "Received") {
		t.Errorf("exit code %d, no bars:\n%s%s", code, &stdout, &stderr)
	}
}

func TestSimulation_NoHub(t *testing.T) {
	results := filepath.Join(t.TempDir(), "results.json")
	got := programtest.Run(Run, "-addr=127.0.0.1", "-port=1", "-json="+results)
	if got.Code != command.ExitFailure {
		t.Errorf("exit code %d, want %d", got.Code, command.ExitFailure)
	}
	if n := strings.Count(got.Stderr, "\n"); n != 1 || !strings.Contains(got.Stderr, "127.0.0.1:1") || !strings.Contains(got.Stderr, "-embed") {
		t.Errorf("%d lines, want one that names the hub and what to do:\n%s", n, got.Stderr)
	}
	if _, err := os.Stat(results); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left an empty results file: %v", err)
	}
}

// TestSimulation_Interrupted interrupts a simulation that would take an hour.
func TestSimulation_Interrupted(t *testing.T) {
	s := programtest.Start(t, Run, "-embed", "-ncli=3", "-nmex=2", "-i=3600000", "-timeout=24h")
	s.WaitForLine(&s.Stdout, "3 clients")
	got := s.Interrupt()
	if got.Code != command.ExitFailure {
		t.Errorf("exit code %d, want %d", got.Code, command.ExitFailure)
	}
	if !strings.Contains(got.Stdout, "interrupted") {
		t.Errorf("the report does not say so:\n%s", got.Stdout)
	}
}

func TestSimulation_InvalidFlags(t *testing.T) {
	tests := []struct{ arg, want string }{
		{"-size=1024001", "-size=1024001: allowed are whole numbers from 0 to 1024000"},
		{"-ncli=256", "-ncli=256: allowed are whole numbers from 0 to 255"},
		{"-ncli=-1", "-ncli=-1: allowed are whole numbers from 0 to 255"},
		{"-nmex=many", "-nmex=many: allowed are whole numbers from 0 to "},
		{"-i=1ms", "-i=1ms: allowed are whole numbers from 0 to 3600000"},
		{"-port=0", "-port=0: allowed are whole numbers from 1 to 65535"},
		{"-verify=quick", "-verify=quick: allowed are full, header and off"},
		{"-embed=perhaps", "-embed=perhaps: allowed are true, false, and whole numbers from 0 to 9"},
		{"-embed=10", "-embed=10: allowed are true, false, and whole numbers from 0 to 9"},
	}
	for _, tt := range tests {
		t.Run(tt.arg, func(t *testing.T) {
			programtest.CheckUsageError(t, programtest.Run(Run, tt.arg), "start_simulation: "+tt.want)
		})
	}
}

func TestSimulation_EmbedExcludesAddress(t *testing.T) {
	const want = "start_simulation: -embed starts its own hub"
	programtest.CheckUsageError(t, programtest.Run(Run, "-embed", "-port=9999"), want)
	programtest.CheckUsageError(t, programtest.Run(Run, "-embed", "-addr=localhost"), want)
	t.Setenv("SIMULATION_PORT", "9999")
	programtest.CheckUsageError(t, programtest.Run(Run, "-embed"), want)
}

func TestSimulation_WritesJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	old := strings.Repeat("longer than any results ", 1000)
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := programtest.Run(Run, append(smallLoad, "-embed", "-json="+path)...); got.Code != command.ExitOK {
		t.Fatalf("exit code %d\n%s", got.Code, got.Stderr)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var report simulation.Report
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if !report.OK() || report.Deliveries != 400 {
		t.Errorf("got %+v", report)
	}
}

func TestSimulation_ResultsNotWritable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "such", "folder.json")
	got := programtest.Run(Run, append(smallLoad, "-embed", "-json="+path)...)
	if got.Code != command.ExitFailure || got.Stdout != "" || !strings.Contains(got.Stderr, path) {
		t.Errorf("exit code %d, stdout %q, stderr %s", got.Code, got.Stdout, got.Stderr)
	}
}

// TestSimulation_KeepsOldResultsOnError checks that a run without a report keeps the results
// of the previous run.
func TestSimulation_KeepsOldResultsOnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	programtest.Run(Run, "-addr=127.0.0.1", "-port=1", "-json="+path)
	if text, err := os.ReadFile(path); err != nil || string(text) != "old" {
		t.Errorf("content is %q, %v", text, err)
	}
}

// TestSimulator_DocumentedDefaults checks the defaults that the specification of the system
// requires.
func TestSimulator_DocumentedDefaults(t *testing.T) {
	c := newSimulator()
	if c.remote.HostPorts() != "localhost:9999" || c.size != 10240 || c.clients != 100 || c.messages != 100 || c.interval != 1 || !c.stat {
		t.Errorf("start_simulation has %+v", c)
	}
}
