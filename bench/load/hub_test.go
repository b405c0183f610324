package main

import (
	"testing"

	"github.com/sechlol/go-message-hub/hub"
)

// TestHubDriver_Moves moves messages to all clients and to drawn ones, in both versions.
func TestHubDriver_Moves(t *testing.T) {
	addr := startHub(t, hub.Config{})
	for name, test := range map[string]struct {
		token  string
		fanout int
	}{
		"version 1, everyone": {"", 0},
		"version 2, everyone": {"ignored", 0},
		"scattered":           {"", 2},
	} {
		c := moveConfig{clients: 5, messages: 100, size: 100, fanout: test.fanout}
		m, err := runMove(t.Context(), target{system: "hub", addr: addr, token: test.token}, c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m.Lost > 0 || m.Faults > 0 || m.Problem != "" || m.Deliveries == 0 || m.Deliveries != m.Expected {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestHubDriver_VisitsAndLatency(t *testing.T) {
	addr := startHub(t, hub.Config{})
	storm, err := runStorm(t.Context(), target{system: "hub", addr: addr}, stormConfig{clients: 20, parallel: 4})
	if err != nil || storm.Visits != 20 {
		t.Errorf("%+v, %v", storm, err)
	}
	latency, err := runLatency(t.Context(), target{system: "hub", addr: addr}, latencyConfig{size: 100, rounds: 10, seconds: 1})
	if err != nil || latency.P50 <= 0 {
		t.Errorf("%+v, %v", latency, err)
	}
}
