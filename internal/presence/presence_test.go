package presence

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/sechlol/go-message-hub/wire"
)

// TestRegistry_ReplacedMember_IsNoChange has a member replace another, and the other leave: a
// watcher must not be told of either.
func TestRegistry_ReplacedMember_IsNoChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRegistry(t)
		w := newFakeWatcher()
		if prev := r.Join(1, "old"); prev != "" {
			t.Errorf("Join of a new id returned %q", prev)
		}
		r.Watch(w, 0, 1)
		settle(2 * coalesceDelay)
		if prev := r.Join(1, "new"); prev != "old" {
			t.Errorf("Join returned %q, want the previous member", prev)
		}
		if r.Leave(1, "old") {
			t.Error("Leave removed another member")
		}
		settle(2 * coalesceDelay)
		if w.updates != 1 {
			t.Errorf("%d updates, want the snapshot only", w.updates)
		}
		if !r.Leave(1, "new") {
			t.Error("Leave removed nothing")
		}
		settle(2 * coalesceDelay)
		if w.updates != 2 || len(w.present) != 0 {
			t.Errorf("after %d updates the set is %v", w.updates, w.present)
		}
	})
}

func TestAfter(t *testing.T) {
	ids := []uint64{2, 4, 6}
	for _, test := range []struct {
		id   uint64
		want []uint64
	}{{0, ids}, {1, ids}, {2, ids[1:]}, {3, ids[1:]}, {6, nil}, {7, nil}} {
		if got := After(ids, test.id); !slices.Equal(got, test.want) {
			t.Errorf("After(%d): %v, want %v", test.id, got, test.want)
		}
	}
}

func TestPage(t *testing.T) {
	ids := make([]uint64, wire.MaxPageIDs+10)
	for i := range ids {
		ids[i] = uint64(i + 1)
	}
	for _, test := range []struct {
		r        wire.ListRange
		from, to int // of ids
		more     bool
	}{
		{wire.ListRange{}, 0, wire.MaxPageIDs, true},
		{wire.ListRange{Limit: 3}, 0, 3, true},
		{wire.ListRange{After: 5, Limit: 3}, 5, 8, true},
		{wire.ListRange{Limit: 1 << 31}, 0, wire.MaxPageIDs, true},
		{wire.ListRange{After: 10}, 10, len(ids), false},
		{wire.ListRange{After: 1 << 60, Limit: 1}, len(ids), len(ids), false},
	} {
		page, more := Page(ids, test.r)
		if !slices.Equal(page, ids[test.from:test.to]) || more != test.more {
			t.Errorf("%+v: %d ids, more %t, want those from %d to %d, more %t", test.r, len(page), more, test.from, test.to, test.more)
		}
	}
}
