package outbox

import (
	"sync"
	"testing"
	"unsafe"
)

// eventRecorder records the events of one batch.
type eventRecorder struct {
	mu     sync.Mutex
	events [][]Event // by frame
}

func (rec *eventRecorder) HandleEvent(_ int, event Event, first, frames int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i := first; i < first+frames; i++ {
		rec.events[i] = append(rec.events[i], event)
	}
}

// count returns how often an event of a frame was reported so far.
func (rec *eventRecorder) count(frame int, event Event) (n int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, p := range rec.events[frame] {
		if p == event {
			n++
		}
	}
	return n
}

// offerUnread returns a testConn whose peer reads nothing, with one offered batch and the
// recorder of its events.
func offerUnread(t *testing.T, window int, frames ...[]byte) (*testConn, *eventRecorder) {
	t.Helper()
	tc := newTestConn(t, memory, Config{MaxBytes: 64 << 10})
	tc.EnableAcks(window, false)
	rec := &eventRecorder{events: make([][]Event, len(frames))}
	batch := tc.newBatch(frames...)
	batch.Reliable, batch.Options = true, &Options{Events: rec}
	fl := tc.newFlusher()
	tc.Offer(batch, fl)
	fl.Reset()
	batch.Buffer.Release()
	return tc, rec
}

func TestOutbox_CloseReportsUnacked(t *testing.T) {
	tc, rec := offerUnread(t, 1<<20, frame(100), frame(100), frame(100))
	waitUntil(t, "written", func() bool { return rec.count(2, EventWritten) == 1 })
	if !tc.Acknowledge(1) {
		t.Error("an acknowledgement of written frames was rejected")
	}
	tc.Close()
	tc.Outbox.Wait()
	tc.Acknowledge(3) // by a reader that does not yet know that the connection is closed
	if rec.count(0, EventAcked) != 1 || rec.count(1, EventAcked) != 0 || rec.count(0, EventUnacked) != 0 || rec.count(1, EventUnacked) != 1 || rec.count(2, EventUnacked) != 1 {
		t.Errorf("events: %v", rec.events)
	}
	if n := used(tc.batchBudget.Budget); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

func TestOutbox_FullWindowStopsWriting(t *testing.T) {
	tc, first := offerUnread(t, 250, frame(100), frame(100))
	waitUntil(t, "written", func() bool { return first.count(1, EventWritten) == 1 })
	fl := tc.newFlusher()
	tc.offer(fl, frame(100))
	fl.Reset()
	waitUntil(t, "the window is full", func() bool {
		tc.Outbox.mu.Lock()
		defer tc.Outbox.mu.Unlock()
		return tc.retransmit.windowBlocked && !tc.flushing
	})
	tc.Acknowledge(1)
	waitUntil(t, "written", func() bool { return !tc.Progress().Busy })
	tc.Close()
}

// TestOutbox_ReleaseSpare releases spare memory while a frame is unacknowledged, and when none is.
// The frame stays, and so does the numbering of later frames.
func TestOutbox_ReleaseSpare(t *testing.T) {
	tc, rec := offerUnread(t, 1<<20, frame(100), frame(100))
	waitUntil(t, "written", func() bool { return rec.count(1, EventWritten) == 1 })
	spare := func() int {
		tc.ReleaseSpare()
		tc.Outbox.mu.Lock()
		defer tc.Outbox.mu.Unlock()
		return cap(tc.retransmit.unacked)
	}
	if !tc.Acknowledge(1) || spare() == 0 || rec.count(1, EventAcked) != 0 {
		t.Error("the second frame is lost")
	}
	if !tc.Acknowledge(2) || rec.count(1, EventAcked) != 1 {
		t.Error("the second frame cannot be acknowledged")
	}
	if n := spare(); n != 0 {
		t.Errorf("room for %d segments is kept", n)
	}
	third := &eventRecorder{events: make([][]Event, 1)}
	batch := tc.newBatch(frame(100))
	batch.Reliable, batch.Options = true, &Options{Events: third}
	fl := tc.newFlusher()
	tc.Offer(batch, fl)
	fl.Reset()
	batch.Buffer.Release()
	waitUntil(t, "written", func() bool { return third.count(0, EventWritten) == 1 })
	if !tc.Acknowledge(3) || third.count(0, EventAcked) != 1 {
		t.Error("the third frame cannot be acknowledged")
	}
	tc.Close()
}

// TestRetransmitQueue_Size checks that a retransmitQueue, which an idle connection with
// EnableAcks has besides a Conn, fits into a size class of Go's allocator.
func TestRetransmitQueue_Size(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("pointers have a different size here")
	}
	const maxLedger = 112
	if size := unsafe.Sizeof(retransmitQueue{}); size > maxLedger {
		t.Errorf("a retransmitQueue has %d bytes, want at most %d", size, maxLedger)
	}
}
