package main

import "testing"

func TestHolders(t *testing.T) {
	b := newBench(t, "hub")
	s := b.holdersScenario(60, 2)
	s.subjects = []subject{s.subjects[1], s.subjects[3]}
	for name, m := range measureOnce(t, s, b).Rounds[0] {
		if m.Held == 0 || m.Deliveries == 0 || m.P99 <= 0 || m.Cut > 0 {
			t.Errorf("%s: %+v", name, m)
		}
	}
}
