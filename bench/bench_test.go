package main

import (
	"testing"
)

// TestPair runs a small pattern through the hub and through the bare sockets. It
// says nothing about speed: it fails when a program does not start, when a
// message is lost, or when the limit moves other bytes than it should.
func TestPair(t *testing.T) {
	p := built(t)
	result, err := measurePairs(t.Context(), p, "smoke", pattern{clients: 10, messages: 20, size: 1024, verify: "full"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i, one := range result.Pairs {
		if one.Hub <= 0 || one.Limit <= 0 || one.HubCost.PeakMiB <= 0 {
			t.Errorf("pair %d was not measured: %+v", i+1, one)
		}
	}
}

func TestIdle(t *testing.T) {
	result, err := measureIdle(t.Context(), built(t), 200)
	if err != nil {
		t.Fatal(err)
	}
	if result.Clients != 200 {
		t.Errorf("%d connections, want 200", result.Clients)
	}
}

func TestRepeat(t *testing.T) {
	result, err := measureRepeat(t.Context(), built(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.HeapMiB) != 2 {
		t.Errorf("%d runs were looked at, want 2", len(result.HeapMiB))
	}
}

func TestUnknownScenario(t *testing.T) {
	if _, err := measure(t.Context(), built(t), "nonsense", 1, ""); err == nil {
		t.Error("no error")
	}
}

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{4, 1}, spread{2.5, 1, 4}},
		{[]float64{9, 1, 2}, spread{2, 1, 9}},
	} {
		if got := spreadOf(test.values); got != test.want {
			t.Errorf("%v, want %v", got, test.want)
		}
	}
}

// built makes the programs of this checkout for one test.
func built(t *testing.T) *programs {
	t.Helper()
	p, err := build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.remove)
	return p
}
