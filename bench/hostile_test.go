package main

import (
	"testing"
	"time"
)

func TestHostileScenario_HasFigures(t *testing.T) {
	b := newTestBench(t, "hub")
	s := b.hostileScenario(200, 1)
	s.subjects = []subject{s.subjects[0], s.subjects[7], s.subjects[12]}
	for name, m := range measureOnce(t, s, b).Rounds[0] {
		if m.MadeConns == 0 || m.P99 <= 0 {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestSoakScenario_LosesNothing(t *testing.T) {
	b := newTestBench(t, "hub")
	r := measureOnce(t, b.soakScenario(10*time.Second), b)
	if m := r.Rounds[0]["hub"]; m.Deliveries == 0 || m.MadeConns == 0 || m.HeapLast <= 0 {
		t.Errorf("%+v", m)
	}
}
