package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

func TestList(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	for _, want := range [][]uint64{{}, {1}, {1, 2, 1 << 63}} {
		listed := runAsync(func() []uint64 {
			ids, err := c.List(t.Context())
			if err != nil {
				t.Error(err)
			}
			return ids
		})
		h.wantBytes(wire.AppendListRequest(nil))
		h.send(wire.AppendList(nil, want, nil))
		if got := waitFor(t, "List", listed); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestList_Concurrent(t *testing.T) {
	const askers, each = 20, 20
	c, h := newTestClientV1TCP(t, nil)
	go h.serve(nil) // ends with the connection
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			for range each {
				ids, err := c.List(t.Context())
				if err != nil || len(ids) != 1 {
					t.Errorf("got %v, %v", ids, err)
					return
				}
				mu.Lock()
				if seen[ids[0]] {
					t.Errorf("reply %d came twice", ids[0])
				}
				seen[ids[0]] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != askers*each {
		t.Errorf("%d replies, want %d", len(seen), askers*each)
	}
}

// TestList_CanceledReplyIsDiscarded: the reply to a canceled List must not go to the next one.
func TestList_CanceledReplyIsDiscarded(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	given := runAsync(func() error { _, err := c.List(ctx); return err })
	h.wantBytes(wire.AppendListRequest(nil))
	cancel()
	if err := waitFor(t, "List", given); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	listed := runAsync(func() []uint64 { ids, _ := c.List(t.Context()); return ids })
	h.wantBytes(wire.AppendListRequest(nil))
	h.send(wire.AppendList(nil, []uint64{1}, nil), wire.AppendList(nil, []uint64{2}, nil))
	if got := waitFor(t, "List", listed); !slices.Equal(got, []uint64{2}) {
		t.Errorf("got %v, want the second reply", got)
	}
}
