package main

import "testing"

func TestLoadedScenario_Hub(t *testing.T) {
	r := measureOnce(t, loadedScenario("test", 128, 1), "hub")
	m := r.Rounds[0][atHalfRate("hub")]
	if m == nil || m.P99 <= 0 || m.Deliveries == 0 || m.Lost > 0 {
		t.Errorf("%+v", m)
	}
}
