package main

import "testing"

// TestWebSocketScenario_EachVariant moves a few messages of each pattern.
func TestWebSocketScenario_EachVariant(t *testing.T) {
	workloads := []webSocketWorkload{
		{receivers: 2, size: 100_000, messages: 2000, maxRatio: 1.2},
		{clients: 10, receivers: 3, size: 10_000, messages: 2000, maxRatio: 1.35},
	}
	r := measureOnce(t, webSocketScenario("websocket", workloads), "hub")
	if subjects, rows := len(r.Rounds[0]), len(r.Ratios[webSocketHeading]); subjects != 5 || rows != 3 {
		t.Errorf("%d subjects and %d ratios, want 5 and 3", subjects, rows)
	}
}
