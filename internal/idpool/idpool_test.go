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
