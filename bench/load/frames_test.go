package main

import (
	"testing"

	"github.com/sechlol/go-message-hub/hub"
)

// TestFramesDriver_Moves moves messages over TCP, WebSocket and both. The larger ones use up the
// credit again and again, and the window.
func TestFramesDriver_Moves(t *testing.T) {
	var hubTarget target
	hubTarget.addr, hubTarget.webAddr = startWebHub(t, hub.Config{Window: 1 << 20})
	for name, c := range map[string]moveConfig{
		"small":                   {clients: 5, messages: 2000, size: 100},
		"one sender":              {clients: 5, senders: 1, messages: 2000, size: 100},
		"chosen receivers":        {clients: 5, messages: 200, size: 100, fanout: 2},
		"larger":                  {clients: 5, messages: 500, size: 10_000},
		"a quarter of the credit": {clients: 3, messages: 100, size: 32_000},
		"above the credit":        {clients: 3, messages: 20, size: 1_000_000},
	} {
		for _, system := range []string{"hub-frames", "hub-frames-ws", "hub-frames-receivers"} {
			hubTarget.system = system
			m, err := runMove(t.Context(), hubTarget, c)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, system, err)
			}
			if m.Lost > 0 || m.Faults > 0 || m.Problem != "" || m.Deliveries == 0 {
				t.Errorf("%s, %s: %+v", name, system, m)
			}
		}
	}
}
