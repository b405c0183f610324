package idpool

import (
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIDsCountUpFromOne(t *testing.T) {
	var p Pool
	for want := uint64(1); want <= 3; want++ {
		if got := p.Next(); got != want {
			t.Errorf("id %d, want %d", got, want)
		}
	}
}

func TestNoIDTwice(t *testing.T) {
	const takers, each = 8, 1000
	var p Pool
	taken := make([][]uint64, takers)
	var wg sync.WaitGroup
	for i := range taken {
		wg.Go(func() {
			for range each {
				taken[i] = append(taken[i], p.Next())
			}
		})
	}
	wg.Wait()
	seen := make(map[uint64]bool, takers*each)
	for _, ids := range taken {
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
	if !seen[1] || !seen[takers*each] || seen[0] {
		t.Errorf("the ids are not 1 to %d", takers*each)
	}
}
