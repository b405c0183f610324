package main

import (
	"testing"
	"time"
)

func TestSoakScenario_LosesNothing(t *testing.T) {
	r := measureOnce(t, soakScenario(10*time.Second), "hub")
	if m := r.Rounds[0]["hub"]; m.Deliveries == 0 || m.MadeConns == 0 || m.HeapLast <= 0 {
		t.Errorf("%+v", m)
	}
}
