package client_test

import (
	"slices"
	"sync"
	"testing"
)

func TestListPage_AndPing(t *testing.T) {
	_, addr := newHub(t)
	clients := dial(t, addr, 5)
	c := clients[2]
	var want, ids []uint64
	for _, one := range clients {
		want = append(want, one.ID())
	}
	for after, more := uint64(0), true; more; {
		p, err := c.ListPage(t.Context(), after, 2)
		if err != nil || p.Total != 5 || len(p.IDs) > 2 {
			t.Fatalf("page %+v, %v", p, err)
		}
		ids, more = append(ids, p.IDs...), p.More
		after = p.IDs[len(p.IDs)-1]
	}
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("the pages are %v, want %v", ids, want)
	}
	if _, err := c.ListPage(t.Context(), 0, -1); err == nil {
		t.Error("a limit of -1 is allowed")
	}
	if took, err := c.Ping(t.Context()); err != nil || took <= 0 || took > testTimeout {
		t.Errorf("Ping took %v, %v", took, err)
	}
}

// TestListPage_Concurrent: each call gets its own page.
func TestListPage_Concurrent(t *testing.T) {
	_, addr := newHub(t)
	clients := dial(t, addr, 10)
	var asking sync.WaitGroup
	for i := range 10 {
		asking.Go(func() {
			for range 100 {
				page, err := clients[0].ListPage(t.Context(), clients[i].ID(), 0)
				if err != nil || len(page.IDs) != 9-i {
					t.Errorf("above client %d there are %v, %v", i, page.IDs, err)
				}
			}
		})
	}
	asking.Wait()
}
