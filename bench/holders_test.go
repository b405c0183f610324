package main

import "testing"

func TestHoldersScenario_CutsNoBystander(t *testing.T) {
	s := holdersScenario(60, 2)
	s.subjects = []subject{s.subjects[1], s.subjects[3]}
	for name, m := range measureOnce(t, s, "hub").Rounds[0] {
		if m.HeldConns == 0 || m.Deliveries == 0 || m.P99 <= 0 || m.CutConns > 0 {
			t.Errorf("%s: %+v", name, m)
		}
	}
}
