package main

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
)

// The tests in this file start real programs. They do not measure speed: they fail when a
// program does not start, when a message is lost, or when a figure is missing. To check the
// speed, run go run . -scenario smoke.

// testPrograms holds the programs, which the first test that needs them builds.
var testPrograms struct {
	make sync.Once
	*programs
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if testPrograms.programs != nil {
		testPrograms.remove()
	}
	os.Exit(code)
}

// newTestBench returns a bench for some systems, with the programs of this checkout.
func newTestBench(t *testing.T, systems ...string) *bench {
	t.Helper()
	for _, name := range systems {
		if name == "limit" {
			continue
		}
		if err := findSystem(name).checkInstalled(); err != nil {
			t.Skip(err)
		}
	}
	// Built once for all tests. The context of one test would end too early.
	testPrograms.make.Do(func() {
		testPrograms.programs, testPrograms.err = build(context.Background(), []string{"nats"})
	})
	if testPrograms.err != nil {
		t.Fatal(testPrograms.err)
	}
	return &bench{programs: testPrograms.programs, systems: systems}
}

// measureOnce runs one round of a scenario and checks that the first figure of each subject is
// present.
func measureOnce(t *testing.T, s *scenario, b *bench) *result {
	t.Helper()
	s.filterSubjects(b.systems)
	r, err := s.measure(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range s.subjects {
		if first := s.columns[0]; first.value(r.Rounds[0][sub.name]) <= 0 {
			t.Errorf("no %q of %s", first.heading, sub.name)
		}
	}
	return r
}

func TestWorkloadScenario_HubAndLimit(t *testing.T) {
	b := newTestBench(t, "hub", "limit")
	measureOnce(t, b.newWorkloadScenario("test", workload{
		clients: 10, messages: 20, size: 1024, verify: "full", systems: b.systems,
	}), b)
}

// librarySystems are the systems that are driven through a client library.
var librarySystems = []string{"hub", "nats", "redis", "mosquitto"}

func TestWorkloadScenario_EachSystem(t *testing.T) {
	for _, system := range librarySystems {
		for name, wl := range map[string]workload{
			"everyone":  {clients: 10, messages: 50, size: 16},
			"scattered": {clients: 10, randomReceivers: 3, messages: 50, size: 1024},
			"one":       {clients: 2, senders: 1, messages: 1000, size: 128},
		} {
			t.Run(system+"/"+name, func(t *testing.T) {
				b := newTestBench(t, system)
				wl.systems = b.systems
				r := measureOnce(t, b.newWorkloadScenario("test", wl), b)
				if m := r.Rounds[0][system]; m.Deliveries != wl.deliveries() || m.Server.PeakMiB <= 0 {
					t.Errorf("%+v", m)
				}
			})
		}
	}
}

func TestLatencyScenario_EachSystem(t *testing.T) {
	for _, system := range append(slices.Clone(librarySystems), "forward") {
		t.Run(system, func(t *testing.T) {
			b := newTestBench(t, system)
			measureOnce(t, b.latencyScenario("test", 128, 100), b)
		})
	}
}

func TestIdleScenario_EachSystem(t *testing.T) {
	for _, system := range librarySystems {
		t.Run(system, func(t *testing.T) {
			b := newTestBench(t, system)
			measureOnce(t, b.idleScenario(2000), b)
		})
	}
}

func TestStormScenario_EachSystem(t *testing.T) {
	for _, system := range librarySystems {
		t.Run(system, func(t *testing.T) {
			b := newTestBench(t, system)
			measureOnce(t, b.stormScenario(200), b)
		})
	}
}

func TestListScenario_ReceivesLists(t *testing.T) {
	b := newTestBench(t, "hub")
	r := measureOnce(t, b.listScenario(200, 3), b)
	if r.Rounds[0]["100 clients request, once a second"].ListSeconds <= 0 {
		t.Error("no client received a list")
	}
}

func TestFloodScenario_EndsConnections(t *testing.T) {
	b := newTestBench(t, "hub")
	r := measureOnce(t, b.floodScenario(1), b)
	for kind, m := range r.Rounds[0] {
		if flooded := kind != "no flood"; flooded != (m.Attempts > 0) || flooded != (m.Rejected > 0) && kind != "messages" {
			t.Errorf("%s: %d attempts, %d rejected", kind, m.Attempts, m.Rejected)
		}
	}
}

func TestRepeatScenario_MeasuresHeap(t *testing.T) {
	b := newTestBench(t, "hub")
	r := measureOnce(t, b.repeatScenario(2), b)
	if m := r.Rounds[0]["hub"]; m.HeapFirst <= 0 || m.HeapLast <= 0 {
		t.Errorf("%+v", m)
	}
}

func TestFullScenario_HasFigures(t *testing.T) {
	b := newTestBench(t, "hub")
	measureOnce(t, b.fullScenario(workload{clients: 20, messages: 200, size: 100_000, verify: "full"}), b)
}
