package presence

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeWatcher is a Watcher that applies the updates to a set.
type fakeWatcher struct {
	full, gone atomic.Bool

	// To be read after settle.
	updates   int
	snapshots int
	repeated  int    // number of joins of what was present, and of leaves of what was not
	revision  uint64 // of the last update
	present   map[uint64]bool
}

func newFakeWatcher() *fakeWatcher { return &fakeWatcher{present: map[uint64]bool{}} }

func (w *fakeWatcher) SendPresence(u *Update) bool {
	if w.full.Load() {
		return false
	}
	w.updates++
	w.revision = u.revision
	if u.snapshot {
		w.snapshots++
		clear(w.present)
	}
	for _, id := range u.joined {
		if w.present[id] {
			w.repeated++
		}
		w.present[id] = true
	}
	for _, id := range u.left {
		if !w.present[id] {
			w.repeated++
		}
		delete(w.present, id)
	}
	return true
}

func (w *fakeWatcher) Gone() bool { return w.gone.Load() }

func (w *fakeWatcher) ids() []uint64 { return slices.Sorted(maps.Keys(w.present)) }

// settle lets the time pass and waits until everything due has been sent.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// startRegistry returns a registry that runs until the test ends.
func startRegistry(t *testing.T) *Registry[string] {
	r := New[string]()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with the test
		defer close(done)
		r.Run(stop)
	}()
	t.Cleanup(func() { close(stop); <-done })
	return r
}

// TestWatchers_Changes_AreCoalesced has clients join and leave one after the other. A watcher is
// sent at most one update per coalesceDelay.
func TestWatchers_Changes_AreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRegistry(t)
		w := newFakeWatcher()
		r.Join(1, "early")
		r.Watch(w, 0, 1)
		settle(2 * coalesceDelay)
		if w.updates != 1 || !w.present[1] {
			t.Errorf("after %d updates the set is %v", w.updates, w.present)
		}
		const changes = 1000
		for id := range uint64(changes) {
			r.Join(10+id, "late")
			if id%2 == 0 {
				r.Leave(10+id, "late")
			}
			time.Sleep(time.Millisecond)
		}
		settle(2 * coalesceDelay)
		maxUpdates := 2 + changes*int(time.Millisecond)/int(coalesceDelay)
		if w.updates > maxUpdates || w.updates < maxUpdates/2 || w.snapshots != 1 || !slices.Equal(w.ids(), r.IDs()) {
			t.Errorf("after %d updates, %d of them snapshots, %d are present, want %d", w.updates, w.snapshots, len(w.present), len(r.IDs()))
		}
	})
}

// TestWatchers_Watch_AnswersOnceInAnyCase watches with a revision that is unknown, current, old,
// of another hub, or too old for the history.
func TestWatchers_Watch_AnswersOnceInAnyCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRegistry(t)
		first := newFakeWatcher()
		r.Join(1, "one")
		r.Watch(first, 0, 10)
		settle(2 * coalesceDelay)
		r.Join(2, "two")
		settle(2 * coalesceDelay)
		start, current := first.revision-1, first.revision
		watch := func(name string, since uint64, wantSnapshot bool, want ...uint64) {
			t.Helper()
			w := newFakeWatcher()
			r.Watch(w, since, 10)
			settle(10 * coalesceDelay)
			if w.updates != 1 || (w.snapshots == 1) != wantSnapshot || !slices.Equal(w.ids(), want) || w.revision < current {
				t.Errorf("%s: %d updates, %d snapshots, revision %d, %v, want %v", name, w.updates, w.snapshots, w.revision, w.ids(), want)
			}
			r.Unwatch(w)
		}
		watch("unknown", 0, true, 1, 2)
		watch("current", current, false)
		watch("old", start, false, 2)
		watch("another hub", 1<<60, true, 1, 2)
		for range 2 * maxHistory {
			r.Join(3, "brief")
			r.Leave(3, "brief")
		}
		watch("too old", start, true, 1, 2)
	})
}

// TestWatchers_FutureRevision_GetsSnapshot watches with the revision of another hub, which this
// hub reaches before it answers.
func TestWatchers_FutureRevision_GetsSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRegistry(t)
		first := newFakeWatcher()
		r.Watch(first, 0, 2)
		settle(2 * coalesceDelay)
		w := newFakeWatcher()
		r.Watch(w, first.revision+1, 2)
		r.Join(1, "one")
		settle(2 * coalesceDelay)
		if w.snapshots != 1 || !w.present[1] {
			t.Errorf("%d snapshots, %v", w.snapshots, w.present)
		}
	})
}

// watchAgain is a watcher that watches again while it is sent its first update.
type watchAgain struct {
	*fakeWatcher
	registry *Registry[string]
}

func (w watchAgain) SendPresence(u *Update) bool {
	if w.updates == 0 {
		w.registry.Watch(w, 0, 1)
	}
	return w.fakeWatcher.SendPresence(u)
}

// TestWatchers_WatchDuringPush_IsAnswered checks that each Watch is answered, also one that
// arrives while the answer to the one before is sent.
func TestWatchers_WatchDuringPush_IsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRegistry(t)
		w := watchAgain{newFakeWatcher(), r}
		r.Watch(w, 0, 1)
		settle(5 * coalesceDelay)
		if w.updates != 2 || w.snapshots != 2 {
			t.Errorf("%d updates, %d of them snapshots, want 2", w.updates, w.snapshots)
		}
	})
}

// changingRoster changes when push has asked for the changes, and when it has asked for the ids.
type changingRoster struct {
	*Registry[string]
	afterRecorded, afterList func()
}

func (r changingRoster) recorded() history {
	defer r.afterRecorded()
	return r.roster.recorded()
}

func (r changingRoster) list() (ids []uint64, revision uint64) {
	defer r.afterList()
	return r.roster.list()
}

// TestWatchers_ChangeDuringSnapshot_IsNotMissed has a client leave after push has asked for the
// changes, and join again after push has asked for the ids. The watcher must have it in the end.
func TestWatchers_ChangeDuringSnapshot_IsNotMissed(t *testing.T) {
	r := New[string]()
	w := newFakeWatcher()
	r.Join(1, "one")
	r.Watch(w, 0, 1)
	r.push(changingRoster{r, func() { r.Leave(1, "one") }, func() { r.Join(1, "one") }})
	r.push(&r.roster)
	if !slices.Equal(w.ids(), r.IDs()) || w.repeated > 0 {
		t.Errorf("the watcher has %v, want %v; it was sent %d changes twice", w.ids(), r.IDs(), w.repeated)
	}
}

// TestWatchers_FullWatcher_IsSentTheRestLater has no room for a watcher for some time. Another
// watcher is not delayed, and the first one misses nothing.
func TestWatchers_FullWatcher_IsSentTheRestLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRegistry(t)
		slow, fast := newFakeWatcher(), newFakeWatcher()
		r.Watch(slow, 0, 2)
		r.Watch(fast, 0, 2)
		settle(2 * coalesceDelay)
		slow.full.Store(true)
		for id := range uint64(10) {
			r.Join(id+1, "late")
			settle(2 * coalesceDelay)
		}
		if slow.updates != 1 || !slices.Equal(fast.ids(), r.IDs()) {
			t.Errorf("%d updates without room; the other has %v", slow.updates, fast.ids())
		}
		slow.full.Store(false)
		settle(2 * coalesceDelay)
		if slow.updates != 2 || slow.snapshots != 1 || !slices.Equal(slow.ids(), r.IDs()) {
			t.Errorf("after %d updates, %d of them snapshots: %v", slow.updates, slow.snapshots, slow.ids())
		}
	})
}

// TestWatchers_Maximum_GoneWatcherGivesPlace checks which watchers count against the maximum.
func TestWatchers_Maximum_GoneWatcherGivesPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRegistry(t)
		a, b, c := newFakeWatcher(), newFakeWatcher(), newFakeWatcher()
		if !r.Watch(a, 0, 2) || !r.Watch(b, 0, 2) || r.Watch(c, 0, 2) {
			t.Error("want two watchers")
		}
		if !r.Watch(b, 0, 2) {
			t.Error("a watcher cannot watch again")
		}
		settle(2 * coalesceDelay)
		b.gone.Store(true)
		r.Join(1, "one")
		settle(2 * coalesceDelay)
		if b.updates != 1 || a.updates != 2 {
			t.Errorf("%d updates to one that is gone, %d to the other", b.updates, a.updates)
		}
		if !r.Watch(c, 0, 2) {
			t.Error("one that is gone keeps its place")
		}
		if was, again := r.Unwatch(a), r.Unwatch(a); !was || again {
			t.Errorf("Unwatch reports %v, and then %v", was, again)
		}
		if !r.Watch(newFakeWatcher(), 0, 2) {
			t.Error("one that does not watch any more keeps its place")
		}
	})
}

// TestWatchers_RandomChanges_EndWithSameSet has watchers come, go and be full at random. In the
// end each of them has the ids of the registry.
func TestWatchers_RandomChanges_EndWithSameSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRegistry(t)
		random := rand.New(rand.NewPCG(1, 1))
		all := []*fakeWatcher{newFakeWatcher(), newFakeWatcher(), newFakeWatcher()}
		for range 20_000 {
			w := all[random.IntN(len(all))]
			switch id := 1 + random.Uint64N(20); random.IntN(12) {
			case 0:
				r.Watch(w, w.revision, len(all))
			case 1:
				r.Unwatch(w)
			case 2:
				w.full.Store(!w.full.Load())
			case 3, 4, 5, 6:
				r.Join(id, "member")
			case 7, 8, 9, 10:
				r.Leave(id, "member")
			default:
				settle(time.Duration(random.Int64N(int64(coalesceDelay))))
			}
		}
		for i, w := range all {
			w.full.Store(false)
			r.Watch(w, w.revision, len(all))
			settle(10 * coalesceDelay)
			if !slices.Equal(w.ids(), r.IDs()) {
				t.Errorf("watcher %d has %v, want %v", i, w.ids(), r.IDs())
			}
		}
	})
}
