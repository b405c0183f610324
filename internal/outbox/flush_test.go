package outbox

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/memorypipe"
	"github.com/sechlol/go-message-hub/wire"
)

// eventCounts counts the frames of each event, over all batches.
type eventCounts [EventUnacked + 1]atomic.Int64

func (c *eventCounts) HandleEvent(_ int, event Event, _, frames int) { c[event].Add(int64(frames)) }

// TestOutbox_StampGetsRemainingTime waits in a full queue: the written frame shows the time
// that is left at the write.
func TestOutbox_StampGetsRemainingTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl, delay = time.Minute, 10 * time.Second
		tc := newTestConn(t, memory, Config{MaxBytes: 64 << 10})
		tc.EnableAcks(1, false)
		tc.Detach() // nothing is written
		var stamped atomic.Int64
		batch := tc.newBatch(frame(100))
		batch.Reliable = true
		batch.Options = &Options{Expires: time.Now().Add(ttl).UnixNano(), Stamp: func(_ []byte, remaining int64) { stamped.Store(remaining) }}
		fl := tc.newFlusher()
		tc.Offer(batch, fl)
		batch.Buffer.Release()
		next := newTestConn(t, memory, Config{MaxBytes: 64 << 10})
		next.EnableAcks(1, false)
		tc.CloseTransport()
		tc.Outbox.Wait()
		time.Sleep(delay)
		tc.moveTo(t, next, Position{0, 0}, false, fl)
		fl.Reset()
		next.wantStream(t, frame(100))
		if remaining := time.Duration(stamped.Load()); remaining != ttl-delay {
			t.Errorf("%v remain of %v after %v", remaining, ttl, delay)
		}
		tc.Close()
		next.Close()
	})
}

// TestOutbox_ExpiresAfterWrite loses a connection with frames that the peer has perhaps
// received. A frame that has expired is not sent again, and keeps its number.
func TestOutbox_ExpiresAfterWrite(t *testing.T) {
	for _, skipSupported := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			tc, next := newTestConn(t, memory, Config{MaxBytes: 64 << 10}), newTestConn(t, memory, Config{MaxBytes: 64 << 10})
			tc.EnableAcks(1<<20, skipSupported)
			next.EnableAcks(1<<20, skipSupported)
			deliver := func(n uint64) []byte { return wire.AppendDeliver(nil, &wire.Deliver{Seq: n}) }
			terms := [3]Options{}
			recs := [3]eventRecorder{}
			fl := tc.newFlusher()
			for i := range terms {
				recs[i].events = make([][]Event, 1)
				terms[i].Events = &recs[i]
				batch := tc.newBatch(deliver(uint64(i)))
				batch.Reliable, batch.Options = true, &terms[i]
				if i == 1 {
					terms[i].Expires = time.Now().Add(50 * time.Millisecond).UnixNano()
				}
				tc.Offer(batch, fl)
				batch.Buffer.Release()
			}
			fl.Reset()
			waitUntil(t, "written", func() bool { return recs[2].count(0, EventWritten) == 1 })
			tc.Detach()
			tc.CloseTransport()
			tc.Outbox.Wait()
			time.Sleep(time.Until(time.Unix(0, terms[1].Expires)))
			tc.Retract(&terms[1])
			if recs[1].count(0, EventUnacked) != 1 {
				t.Errorf("skips %v: no EventUnacked for the expired frame: %v", skipSupported, recs[1].events)
			}
			if resends, ok := tc.Resumable(Position{0, 0}); resends != 3 || !ok {
				t.Fatalf("not resumable, %d frames to resend", resends)
			}
			tc.moveTo(t, next, Position{0, 0}, false, fl)
			fl.Reset()
			second := deliver(1)
			if skipSupported {
				second = wire.AppendSkip(nil)
			}
			next.wantStream(t, deliver(0))
			next.wantStream(t, second)
			next.wantStream(t, deliver(2))
			waitUntil(t, "acknowledged", func() bool { return next.Acknowledge(3) })
			waitUntil(t, "settled", func() bool { return recs[2].count(0, EventAcked) == 1 })
			if k := next.AckStats(); k.Written != 3 || k.Acked != 3 || used(tc.batchBudget.Budget) != 0 {
				t.Errorf("skips %v: unacknowledged %+v, %d bytes are held", skipSupported, k, used(tc.batchBudget.Budget))
			}
			tc.Close()
			next.Close()
		})
	}
}

// TestOutbox_Retract_ReportsStillQueued retracts two frames: the first is being written, the
// second is queued behind it.
func TestOutbox_Retract_ReportsStillQueued(t *testing.T) {
	tc := newTestConn(t, pipe, Config{MaxBytes: 64 << 10})
	var seen eventCounts
	options := &Options{Events: &seen, Expires: time.Now().Add(time.Hour).UnixNano()}
	offer := func() Outcome {
		batch := tc.newBatch(frame(100))
		defer batch.Buffer.Release()
		batch.Options = options
		fl := tc.newFlusher()
		defer fl.Abandon()
		return tc.Offer(batch, fl)
	}
	offer()
	waitUntil(t, "it is being written", func() bool {
		tc.Outbox.mu.Lock()
		defer tc.Outbox.mu.Unlock()
		return tc.queue != nil && tc.queue.writing > 0
	})
	offer()
	if stillQueued := tc.Retract(options); !stillQueued || seen[EventExpired].Load() != 1 {
		t.Errorf("stillQueued is %v and %d frames were retracted, want true and the second of two", stillQueued, seen[EventExpired].Load())
	}
	tc.wantStream(t, frame(100))
	waitUntil(t, "it is written", func() bool { return seen[EventWritten].Load() == 1 })
	waitUntil(t, "the flusher is over", func() bool { return !tc.isFlushing() })
	if tc.Retract(options) {
		t.Error("stillQueued is true with an empty queue")
	}
	options = &Options{Events: &seen, Expires: time.Now().UnixNano()}
	if outcome := offer(); outcome != AlreadyExpired || tc.Busy() {
		t.Errorf("offer of an expired batch: %v, want %v", outcome, AlreadyExpired)
	}
	tc.Close()
}

// TestOutbox_PendingBytes_AreCompletedInParts has a connection that takes a vector over and
// writes it in parts: while it waits between them, the outbox holds no part of the vector, the
// written frames are released, and the others cannot expire any more.
func TestOutbox_PendingBytes_AreCompletedInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, records, Config{MaxBytes: 1 << 20})
		fl := tc.newFlusher()
		var seen eventCounts
		options := &Options{Events: &seen, Expires: time.Now().Add(time.Hour).UnixNano()}
		var want []byte
		for range 90 {
			batch := tc.newBatch(frame(2000))
			batch.Options = options
			tc.Offer(batch, fl)
			batch.Buffer.Release()
			want = append(want, frame(2000)...)
		}
		fl.Reset()
		synctest.Wait()
		const accepted = memorypipe.Size / 2000
		if n := seen[EventWritten].Load(); n != accepted {
			t.Errorf("%d frames are written while the connection is full, want %d", n, accepted)
		}
		tc.Outbox.mu.Lock()
		if q := tc.queue; slices.ContainsFunc(q.vector, func(p []byte) bool { return p != nil }) || q.writing == 0 {
			t.Error("the vector is still held, or nothing is being written")
		}
		tc.Outbox.mu.Unlock()
		tc.Retract(options)
		const started = 2*(60<<10)/2000 + 1 // in two vectors
		if n := int(seen[EventExpired].Load()); n != 90-started {
			t.Errorf("%d frames have expired, want all but %d", n, started)
		}
		tc.wantStream(t, want[:2000*started])
		tc.Close()
		tc.Wait()
		if n := used(tc.batchBudget.Budget); n != 0 {
			t.Errorf("%d bytes are still held", n)
		}
	})
}
