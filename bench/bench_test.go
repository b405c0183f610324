package main

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
)

// The tests in this file start real programs. They say nothing about speed: they
// fail when a program does not start, when a message is lost, or when a figure is
// missing. For speed there is go run . -scenario smoke.

// programsFolder is where the programs are once a test has needed them.
var programsFolder struct {
	make sync.Once
	*programs
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if programsFolder.programs != nil {
		programsFolder.remove()
	}
	os.Exit(code)
}

// newBench returns a bench with the programs of this checkout, for some systems.
func newBench(t *testing.T, systems ...string) *bench {
	t.Helper()
	for _, name := range systems {
		if name == "limit" {
			continue
		}
		if err := systemNamed(name).there(); err != nil {
			t.Skip(err)
		}
	}
	// All of them at once, for all tests: a context of one test would be too short.
	programsFolder.make.Do(func() {
		programsFolder.programs, programsFolder.err = build(context.Background(), []string{"nats"})
	})
	if programsFolder.err != nil {
		t.Fatal(programsFolder.err)
	}
	return &bench{programs: programsFolder.programs, systems: systems}
}

// measureOnce runs one round of a scenario and looks for every figure.
func measureOnce(t *testing.T, s *scenario, b *bench) *result {
	t.Helper()
	s.keep(b.systems)
	r, err := s.measure(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range s.subjects {
		if first := s.columns[0]; first.of(r.Rounds[0][one.name]) <= 0 {
			t.Errorf("no %q of %s", first.heading, one.name)
		}
	}
	return r
}

func TestHubAndLimit(t *testing.T) {
	b := newBench(t, "hub", "limit")
	measureOnce(t, b.scenarioOf("test", pattern{
		clients: 10, messages: 20, size: 1024, verify: "full", systems: b.systems,
	}), b)
}

// peers are the systems that a client library drives.
var peers = []string{"hub", "nats", "redis", "mosquitto"}

func TestPatterns(t *testing.T) {
	for _, system := range peers {
		for name, p := range map[string]pattern{
			"everyone":  {clients: 10, messages: 50, size: 16},
			"scattered": {clients: 10, to: 3, messages: 50, size: 1024},
			"one":       {clients: 2, senders: 1, messages: 1000, size: 128},
		} {
			t.Run(system+"/"+name, func(t *testing.T) {
				b := newBench(t, system)
				p.systems = b.systems
				r := measureOnce(t, b.scenarioOf("test", p), b)
				if m := r.Rounds[0][system]; m.Deliveries != p.deliveries() || m.Server.PeakMiB <= 0 {
					t.Errorf("%+v", m)
				}
			})
		}
	}
}

func TestLatency(t *testing.T) {
	for _, system := range append(slices.Clone(peers), "forward") {
		t.Run(system, func(t *testing.T) {
			b := newBench(t, system)
			measureOnce(t, b.latencyScenario("test", 128, 100), b)
		})
	}
}

func TestIdle(t *testing.T) {
	for _, system := range peers {
		t.Run(system, func(t *testing.T) {
			b := newBench(t, system)
			measureOnce(t, b.idleScenario(2000), b)
		})
	}
}

func TestStorm(t *testing.T) {
	for _, system := range peers {
		t.Run(system, func(t *testing.T) {
			b := newBench(t, system)
			measureOnce(t, b.stormScenario(200), b)
		})
	}
}

func TestList(t *testing.T) {
	b := newBench(t, "hub")
	r := measureOnce(t, b.listScenario(200, 3), b)
	if r.Rounds[0]["100 ask, once a second"].Lists <= 0 {
		t.Error("nobody got a list")
	}
}

func TestFlood(t *testing.T) {
	b := newBench(t, "hub")
	r := measureOnce(t, b.floodScenario(1), b)
	for kind, m := range r.Rounds[0] {
		if flooded := kind != "nobody floods"; flooded != (m.Tries > 0) || flooded != (m.Refused > 0) && kind != "messages" {
			t.Errorf("%s: %d tries, %d refused", kind, m.Tries, m.Refused)
		}
	}
}

func TestRepeat(t *testing.T) {
	b := newBench(t, "hub")
	r := measureOnce(t, b.repeatScenario(2), b)
	if m := r.Rounds[0]["hub"]; m.HeapFirst <= 0 || m.HeapLast <= 0 {
		t.Errorf("%+v", m)
	}
}

func TestFull(t *testing.T) {
	b := newBench(t, "hub")
	measureOnce(t, b.fullScenario(pattern{clients: 20, messages: 200, size: 100_000, verify: "full"}), b)
}
