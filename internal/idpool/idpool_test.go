package idpool

import (
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPool_NextCountsUpFromOne(t *testing.T) {
	var p Pool
	for want := uint64(1); want <= 3; want++ {
		if got := p.Next(); got != want {
			t.Errorf("id %d, want %d", got, want)
		}
	}
}

func TestPool_ConcurrentNextIsUnique(t *testing.T) {
	const goroutines, each = 8, 1000
	var p Pool
	results := make([][]uint64, goroutines)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			for range each {
				results[i] = append(results[i], p.Next())
			}
		})
	}
	wg.Wait()
	seen := make(map[uint64]bool, goroutines*each)
	for _, ids := range results {
		last := uint64(0)
		for _, id := range ids {
			if seen[id] {
				t.Fatalf("id %d was handed out twice", id)
			}
			if id <= last {
				t.Fatalf("id %d came after %d", id, last)
			}
			seen[id], last = true, id
		}
	}
	if !seen[1] || !seen[goroutines*each] || seen[0] {
		t.Errorf("the ids are not 1 to %d", goroutines*each)
	}
}

// TestPool_Reserve_IsOmitted reserves ids before, at and behind the next one.
func TestPool_Reserve_IsOmitted(t *testing.T) {
	var p Pool
	p.StartAt(10)
	for _, id := range []uint64{10, 12, 13, 20, 13} { // an id can be reserved again
		if !p.Reserve(id) {
			t.Errorf("id %d cannot be reserved", id)
		}
	}
	for _, want := range []uint64{11, 14, 15} {
		if got := p.Next(); got != want {
			t.Errorf("id %d, want %d", got, want)
		}
	}
	for id, want := range map[uint64]bool{0: false, 9: false, 11: false, 15: false, 10: true, 13: true, 20: true, 16: true} {
		if got := p.Reserve(id); got != want {
			t.Errorf("id %d can be reserved: %v, want %v", id, got, want)
		}
	}
	for _, want := range []uint64{17, 18, 19, 21} {
		if got := p.Next(); got != want {
			t.Errorf("id %d, want %d", got, want)
		}
	}
}

// TestPool_ConcurrentReserve_OwnsID reserves ids while they are assigned: each has one owner.
func TestPool_ConcurrentReserve_OwnsID(t *testing.T) {
	const n = 2000
	var p Pool
	assigned, reserved := make(map[uint64]bool, n), make(map[uint64]bool, n)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range n {
			assigned[p.Next()] = true
		}
	})
	wg.Go(func() {
		for id := uint64(1); id <= n; id++ {
			reserved[id] = p.Reserve(id)
		}
	})
	wg.Wait()
	for id := uint64(1); id <= n; id++ {
		if assigned[id] == reserved[id] {
			t.Fatalf("id %d is assigned: %v, and reserved: %v", id, assigned[id], reserved[id])
		}
	}
}
