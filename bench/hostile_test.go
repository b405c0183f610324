package main

import (
	"testing"
	"time"
)

func TestHostile(t *testing.T) {
	b := newBench(t, "hub")
	s := b.hostileScenario(200, 1)
	s.subjects = []subject{s.subjects[0], s.subjects[7], s.subjects[12]}
	for name, m := range measureOnce(t, s, b).Rounds[0] {
		if m.Made == 0 || m.P99 <= 0 {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestSoak(t *testing.T) {
	b := newBench(t, "hub")
	r := measureOnce(t, b.soakScenario(10*time.Second), b)
	if m := r.Rounds[0]["hub"]; m.Deliveries == 0 || m.Made == 0 || m.HeapLast <= 0 {
		t.Errorf("%+v", m)
	}
}
