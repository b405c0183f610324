package wire_test

import (
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

func TestIDs_WireOrder(t *testing.T) {
	want := []uint64{9, 1, ^uint64(0), 1}
	_, payload := wire.Split(wire.AppendRelay(nil, want, nil))
	ids := wire.IDs(payload[1:])
	if ids.Len() != len(want) {
		t.Errorf("Len = %d, want %d", ids.Len(), len(want))
	}
	for i, id := range want {
		if ids.At(i) != id {
			t.Errorf("At(%d) = %d, want %d", i, ids.At(i), id)
		}
	}
	if got := slices.Collect(ids.All()); !slices.Equal(got, want) {
		t.Errorf("All = %v, want %v", got, want)
	}
	if got := ids.AppendTo([]uint64{5}); !slices.Equal(got, append([]uint64{5}, want...)) {
		t.Errorf("AppendTo = %v", got)
	}
}

func TestIDs_AllStopsAtBreak(t *testing.T) {
	ids := wire.IDs(make([]byte, 3*wire.IDSize))
	seen := 0
	for range ids.All() {
		seen++
		break
	}
	if seen != 1 {
		t.Errorf("%d ids after a break, want 1", seen)
	}
}

func TestIDs_Empty(t *testing.T) {
	if n := wire.IDs(nil).Len(); n != 0 {
		t.Errorf("Len = %d", n)
	}
	for id := range wire.IDs(nil).All() {
		t.Errorf("got %d", id)
	}
}

func BenchmarkIDs(b *testing.B) {
	ids := wire.IDs(make([]byte, wire.MaxReceivers*wire.IDSize))
	b.ReportAllocs()
	var sum uint64
	for b.Loop() {
		for id := range ids.All() {
			sum += id
		}
	}
	_ = sum
}
