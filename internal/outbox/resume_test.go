package outbox

import (
	"io"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// TestOutbox_WriteStarted has a connection that accepts a REPORT, two messages, and a part of
// the next message.
func TestOutbox_WriteStarted(t *testing.T) {
	tc := newTestConn(t, pipe, Config{MaxBytes: 64 << 10})
	tc.EnableAcks(1<<20, true)
	fl := tc.newFlusher()
	for _, small := range [][]byte{wire.AppendReport(nil, 1, []byte{0}), wire.AppendDeliver(nil, &wire.Deliver{Seq: 7})} {
		batch := tc.newBatch(small)
		batch.Reliable = true
		tc.Offer(batch, fl)
		batch.Buffer.Release()
	}
	for i := range 3 {
		batch := tc.newBatch(wire.AppendDeliver(nil, &wire.Deliver{Seq: uint64(i), Body: make([]byte, 20_000)}))
		batch.Reliable = true
		tc.Offer(batch, fl)
		batch.Buffer.Release()
	}
	if tc.WriteStarted(1) {
		t.Error("WriteStarted is true before the first write")
	}
	fl.Reset()
	tc.wantStream(t, wire.AppendReport(nil, 1, []byte{0}))
	tc.wantStream(t, wire.AppendDeliver(nil, &wire.Deliver{Seq: 7}))
	tc.wantStream(t, wire.AppendDeliver(nil, &wire.Deliver{Body: make([]byte, 20_000)}))
	tc.wantStream(t, wire.AppendDeliver(nil, &wire.Deliver{Seq: 1, Body: make([]byte, 20_000)})[:10])
	tc.loseConn(t)
	for frame, want := range []bool{false, true, true, true, false, false} {
		if tc.WriteStarted(uint64(frame)) != want {
			t.Errorf("WriteStarted(%d) is %v", frame, !want)
		}
	}
	for _, read := range []uint64{6, 5} {
		if _, ok := tc.Resumable(Position{Read: read}); ok {
			t.Errorf("after 3 frames and a part of the next, a peer that has read %d was accepted", read)
		}
	}
	if _, ok := tc.Resumable(Position{Read: 4}); !ok {
		t.Error("a peer that has read the started frame was rejected")
	}
	tc.Close()
}

// TestOutbox_Resumable_RejectsUnwritten queues three messages that were never passed to a
// connection.
func TestOutbox_Resumable_RejectsUnwritten(t *testing.T) {
	tc := newTestConn(t, memory, Config{MaxBytes: 64 << 10})
	tc.EnableAcks(1<<20, true)
	tc.loseConn(t)
	fl := tc.newFlusher()
	for i := range 3 {
		batch := tc.newBatch(wire.AppendDeliver(nil, &wire.Deliver{Seq: uint64(i)}))
		batch.Reliable = true
		tc.Offer(batch, fl)
		batch.Buffer.Release()
	}
	fl.Reset()
	for _, pos := range []Position{{Read: 1}, {1, 1}, {Read: 3}} {
		if _, ok := tc.Resumable(pos); ok {
			t.Errorf("resumable at %+v", pos)
		}
	}
	tc.queue.unconfirmed = wire.DeliverLen(0) + 1 // as after a failed write to crypto/tls
	for read, want := range []bool{true, true, true, false} {
		if _, ok := tc.Resumable(Position{Read: uint64(read)}); ok != want {
			t.Errorf("after a failed write of one message and a part of the next, Read %d is resumable: %v", read, ok)
		}
	}
	tc.Close()
}

// TestOutbox_DropUnacked_CountsForWindow checks that dropped frames still count against the
// window, because their bookkeeping takes memory.
func TestOutbox_DropUnacked_CountsForWindow(t *testing.T) {
	tc := newTestConn(t, memory, Config{MaxBytes: 64 << 10})
	tc.EnableAcks(20*segmentCost, false)
	fl := tc.newFlusher()
	go io.Copy(io.Discard, tc.far) // ends with the connection
	for range 100 {
		batch := tc.newBatch(wire.AppendDeliver(nil, &wire.Deliver{}))
		batch.Reliable, batch.Options = true, &Options{Events: &eventRecorder{events: make([][]Event, 1)}}
		tc.Offer(batch, fl)
		fl.Abandon()
		batch.Buffer.Release()
		tc.DropUnacked()
	}
	waitUntil(t, "the window is full", func() bool { return !tc.isFlushing() })
	tc.DropUnacked()
	if k := tc.AckStats(); k.Written > 20 || k.HeldBytes != 0 {
		t.Errorf("written and not acknowledged: %+v", k)
	}
	tc.Close()
}

// TestOutbox_Move_ToClosedOutbox checks that a failed Move leaves all frames where they are.
func TestOutbox_Move_ToClosedOutbox(t *testing.T) {
	tc, next := newTestConn(t, memory, Config{MaxBytes: 4 << 10}), newTestConn(t, memory, Config{MaxBytes: 4 << 10})
	tc.EnableAcks(1<<20, false)
	next.EnableAcks(1<<20, false)
	tc.Detach()
	tc.CloseTransport()
	tc.Outbox.Wait()
	fl := tc.newFlusher()
	for range 3 {
		batch := tc.newBatch(frame(5000))
		batch.Reliable = true
		tc.Offer(batch, fl)
		batch.Buffer.Release()
	}
	if _, ok := tc.Resumable(Position{0, 0}); !ok {
		t.Fatal("not resumable")
	}
	next.Close()
	if _, ok := tc.Move(&next.Outbox, Position{0, 0}, false, fl); ok {
		t.Error("Move to a closed outbox succeeded")
	}
	tc.Close()
	if !fl.Wait(nil) {
		t.Error("a blocked send still waits")
	}
	if n := used(tc.batchBudget.Budget); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// TestOutbox_DropUnacked checks that dropped frames cannot be sent again, and that their
// events are still reported.
func TestOutbox_DropUnacked(t *testing.T) {
	tc := newTestConn(t, memory, Config{MaxBytes: 64 << 10})
	tc.EnableAcks(1<<20, false)
	rec := &eventRecorder{events: make([][]Event, 2)}
	batch := tc.newBatch(frame(5000), frame(5000))
	batch.Reliable, batch.Options = true, &Options{Events: rec}
	fl := tc.newFlusher()
	tc.Offer(batch, fl)
	fl.Reset()
	batch.Buffer.Release()
	waitUntil(t, "written", func() bool { return rec.count(1, EventWritten) == 1 })
	if k := tc.AckStats(); k != (AckStats{Written: 2, HeldBytes: 2 * len(frame(5000))}) {
		t.Errorf("AckStats: %+v", k)
	}
	tc.DropUnacked()
	waitUntil(t, "the memory is released", func() bool { return used(tc.batchBudget.Budget) == 0 })
	tc.Acknowledge(1)
	if rec.count(0, EventAcked) != 1 {
		t.Error("an acknowledgement of dropped frames was rejected")
	}
	if k := tc.AckStats(); k != (AckStats{Written: 2, Acked: 1}) {
		t.Errorf("AckStats: %+v", k)
	}
	tc.Detach()
	tc.CloseTransport()
	tc.Outbox.Wait()
	if _, ok := tc.Resumable(Position{1, 1}); ok {
		t.Error("dropped frames can be sent again")
	}
	if _, ok := tc.Resumable(Position{2, 2}); !ok {
		t.Error("a peer that has received all frames cannot resume")
	}
	tc.Close()
}

// TestOutbox_Move_DropsUnreliableFrames has a reply to a request of the old connection blocked
// between two reliable frames: the reply is dropped, and the reliable frames are not.
func TestOutbox_Move_DropsUnreliableFrames(t *testing.T) {
	tc, next := newTestConn(t, memory, Config{MaxBytes: 4 << 10}), newTestConn(t, memory, Config{MaxBytes: 64 << 10})
	tc.EnableAcks(1, false) // one written frame fills the window
	next.EnableAcks(1<<20, false)
	fl := tc.newFlusher()
	var recs []*eventRecorder
	for i, reliable := range []bool{true, true, true, false, true} {
		rec := &eventRecorder{events: make([][]Event, 1)}
		batch := tc.newBatch(frame(5000))
		batch.Reliable, batch.Options = reliable, &Options{Events: rec}
		tc.Offer(batch, fl)
		fl.Abandon()
		batch.Buffer.Release()
		if i == 0 {
			waitUntil(t, "written", func() bool { return rec.count(0, EventWritten) == 1 })
		}
		recs = append(recs, rec)
	}
	tc.Detach()
	tc.CloseTransport()
	tc.Outbox.Wait()
	tc.moveTo(t, next, Position{1, 1}, false, fl)
	fl.Abandon()
	for i, rec := range recs[1:] {
		if i == 2 {
			waitUntil(t, "dropped", func() bool { return rec.count(0, EventLost) == 1 })
			continue
		}
		waitUntil(t, "written", func() bool { return rec.count(0, EventWritten) == 1 })
	}
	if n := recs[3].count(0, EventWritten); n != 0 {
		t.Error("the reply was written")
	}
	tc.Close()
	next.Close()
}

// TestOutbox_DropUnacked_AfterResumable calls DropUnacked between Resumable and Move.
func TestOutbox_DropUnacked_AfterResumable(t *testing.T) {
	tc, next := newTestConn(t, memory, Config{MaxBytes: 64 << 10}), newTestConn(t, memory, Config{MaxBytes: 64 << 10})
	tc.EnableAcks(1<<20, false)
	next.EnableAcks(1<<20, false)
	rec := &eventRecorder{events: make([][]Event, 1)}
	batch := tc.newBatch(frame(5000))
	batch.Reliable, batch.Options = true, &Options{Events: rec}
	fl := tc.newFlusher()
	tc.Offer(batch, fl)
	fl.Reset()
	batch.Buffer.Release()
	waitUntil(t, "written", func() bool { return rec.count(0, EventWritten) == 1 })
	tc.Detach()
	tc.CloseTransport()
	tc.Outbox.Wait()
	if _, ok := tc.Resumable(Position{0, 0}); !ok {
		t.Fatal("unacknowledged frames cannot be sent again")
	}
	tc.DropUnacked()
	tc.Move(&next.Outbox, Position{0, 0}, false, fl)
	fl.Reset()
	waitUntil(t, "written again", func() bool { return next.Progress().Sent > 0 })
	if n := rec.count(0, EventWritten); n != 1 {
		t.Errorf("EventWritten was reported %d times", n)
	}
	tc.Close()
	next.Close()
}

// TestOutbox_CancelResume_LetsDropUnackedDrop calls CancelResume instead of Move, after which
// the frames can be dropped, and then cannot be sent again.
func TestOutbox_CancelResume_LetsDropUnackedDrop(t *testing.T) {
	tc := newTestConn(t, memory, Config{MaxBytes: 64 << 10})
	tc.EnableAcks(1<<20, false)
	rec := &eventRecorder{events: make([][]Event, 1)}
	batch := tc.newBatch(frame(5000))
	batch.Reliable, batch.Options = true, &Options{Events: rec}
	fl := tc.newFlusher()
	tc.Offer(batch, fl)
	fl.Reset()
	batch.Buffer.Release()
	waitUntil(t, "written", func() bool { return rec.count(0, EventWritten) == 1 })
	tc.Detach()
	tc.CloseTransport()
	tc.Outbox.Wait()
	for range 2 { // the frames can be sent again until they are dropped
		if _, ok := tc.Resumable(Position{0, 0}); !ok {
			t.Fatal("unacknowledged frames cannot be sent again")
		}
		tc.CancelResume()
	}
	tc.DropUnacked()
	if _, ok := tc.Resumable(Position{0, 0}); ok {
		t.Error("dropped frames can be sent again")
	}
	tc.Close()
	tc.CancelResume() // without effect on a closed outbox
}
