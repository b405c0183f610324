package main

import (
	"testing"
)

func TestHostileScenario_HasFigures(t *testing.T) {
	s := hostileScenario(200, 1)
	s.subjects = []subject{s.subjects[0], s.subjects[7], s.subjects[12]}
	for name, m := range measureOnce(t, s, "hub").Rounds[0] {
		if m.MadeConns == 0 || m.P99 <= 0 {
			t.Errorf("%s: %+v", name, m)
		}
	}
}
