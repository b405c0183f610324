package main

import (
	"testing"
	"time"
)

func TestBystanders_Measure(t *testing.T) {
	pair, err := newBystanders(t.Context(), startTestHub(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pair.close()
	for range 2 { // a pair is measured without and with load
		m, err := pair.measure(t.Context(), 20*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if m.Expected != 10 || m.Deliveries != 10 || m.P50 <= 0 || m.P99 > m.Max {
			t.Errorf("%+v", m)
		}
	}
}

func TestBystanders_LostConnection(t *testing.T) {
	pair, err := newBystanders(t.Context(), startTestHub(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pair.close()
	pair.a.Close()
	if m, err := pair.measure(t.Context(), 20*time.Millisecond); err == nil {
		t.Errorf("%+v of a closed connection", m)
	}
}
