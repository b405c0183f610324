package main

import "testing"

func TestWebSocketSystemsScenario_LosesNothing(t *testing.T) {
	r := measureOnce(t, webSocketSystemsScenario("websocket-small", workload{clients: 10, messages: 100, size: 1000}), webSocketSystems...)
	for system, m := range r.Rounds[0] {
		if m.Lost > 0 || m.Faults > 0 || m.Deliveries != 9000 {
			t.Errorf("%s: %+v", system, m)
		}
	}
}
