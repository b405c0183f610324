package main

import "testing"

func TestFloodScenario_EndsConnections(t *testing.T) {
	r := measureOnce(t, floodScenario(1), "hub")
	for kind, m := range r.Rounds[0] {
		if flooded := kind != "no flood"; flooded != (m.Attempts > 0) || flooded != (m.Rejected > 0) && kind != "messages" {
			t.Errorf("%s: %d attempts, %d rejected", kind, m.Attempts, m.Rejected)
		}
	}
}
