package server

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGCPercentFor_LiveHeaps(t *testing.T) {
	for live, want := range map[uint64]int{0: maxGCPercent, 1 << 20: maxGCPercent, 8 << 20: 200, 32 << 20: gcPercent, 1 << 30: gcPercent} {
		if got := gcPercentFor(live); got != want {
			t.Errorf("%d%% for %d bytes, want %d%%", got, live, want)
		}
	}
}

// TestGCPacer_FollowsLiveHeap grows the live heap, and lets it shrink.
func TestGCPacer_FollowsLiveHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(gcPercent)
	defer debug.SetGCPercent(before)
	p := startGCPacer()
	defer p.stop()
	current := func() int {
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		return percent
	}
	if got := current(); got <= gcPercent {
		t.Fatalf("%d%% with a small heap", got)
	}
	large := make([]byte, 8*minGarbage)
	awaitCollections(t, func() bool { return current() == gcPercent })
	runtime.KeepAlive(large)
	large = nil
	awaitCollections(t, func() bool { return current() > gcPercent })
}

func TestGCPacer_KeepsGOGC(t *testing.T) {
	t.Setenv("GOGC", "75")
	before := debug.SetGCPercent(75)
	defer debug.SetGCPercent(before)
	defer startGCPacer().stop()
	if got := debug.SetGCPercent(75); got != 75 {
		t.Errorf("%d%%, the operator has set 75%%", got)
	}
}

// awaitCollections collects garbage until done returns true. The runtime calls cleanups a moment
// after a collection.
func awaitCollections(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("the GC percentage does not follow the heap")
		}
		runtime.Gosched()
	}
}
