package main

import "testing"

// TestRun_RejectsArguments runs invalid command lines. None of them connects.
func TestRun_RejectsArguments(t *testing.T) {
	for _, args := range [][]string{
		nil,
		{"nonsense"},
		{"move", "-nonsense"},
		{"move", "-system=nonsense"},
		{"move", "-size=15"},
		{"latency", "-system=nonsense"},
		{"latency", "-size=15"},
		{"latency", "-rounds=0"},
		{"storm", "-system=nonsense"},
		{"storm", "-system=forward"}, // has no ids
		{"storm", "-clients=0"},
		{"flood", "-kind=nonsense"},
		{"flood", "-system=nats"},
		{"flood", "-from=nonsense"},
		{"flood", "-clients=1"},
		{"flood", "-rate=0"},
		{"latency", "-rate=-1"},
		{"hostile", "-kind=nonsense"},
	} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
