package main

import (
	"testing"
	"time"
)

// TestMeasuredClients_Measure has time for three large messages, and for the first burst of the
// client with the slow link.
func TestMeasuredClients_Measure(t *testing.T) {
	mc, err := newMeasuredClients(t.Context(), startTestHub(t))
	if err != nil {
		t.Fatal(err)
	}
	defer mc.close()
	m := mc.measure(t.Context(), 3*largeInterval)
	if m.Expected == 0 || m.Deliveries == 0 || m.CutConns != 0 || m.P50 <= 0 {
		t.Errorf("%+v", m)
	}
}

func TestMeasuredClients_CountsCut(t *testing.T) {
	mc, err := newMeasuredClients(t.Context(), startTestHub(t))
	if err != nil {
		t.Fatal(err)
	}
	defer mc.close()
	mc.to.Close()
	m := mc.measure(t.Context(), 300*time.Millisecond)
	if m.CutConns != 1 || m.Deliveries != 0 {
		t.Errorf("%+v, want one connection cut and nothing delivered", m)
	}
}
