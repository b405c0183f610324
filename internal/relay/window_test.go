package relay

import (
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// TestWindow_Batches_LeaveInOrder queues batches out of order. A batch leaves the window
// only after those before it.
func TestWindow_Batches_LeaveInOrder(t *testing.T) {
	var w Window
	for seq := uint64(1); seq <= 4; seq++ {
		w.Add(seq*10, Cost{InFlight: 100, Unacked: 1 << seq})
	}
	for _, step := range []struct {
		lastSeq        uint64
		unacked, bytes int
		queuedSeq      uint64
	}{
		{20, 0, 400, 0},
		{40, 0, 400, 0},
		{10, 1<<1 + 1<<2, 200, 20},
		{30, 1<<3 + 1<<4, 0, 40},
	} {
		unacked := w.OnQueued(step.lastSeq)
		if unacked != step.unacked || w.bytes != step.bytes || w.queuedSeq != step.queuedSeq {
			t.Errorf("after batch %d: %d unacked, %d in flight, queued up to %d, want %+v", step.lastSeq, unacked, w.bytes, w.queuedSeq, step)
		}
	}
	if len(w.batches) != 0 {
		t.Errorf("%d batches are left", len(w.batches))
	}
}

// TestWindow_UnknownBatch_ChangesNothing queues a batch that is not in the window.
func TestWindow_UnknownBatch_ChangesNothing(t *testing.T) {
	var w Window
	w.Add(1, Cost{InFlight: 100, Unacked: 100})
	if unacked := w.OnQueued(2); unacked != 0 || w.bytes != 100 || w.queuedSeq != 0 {
		t.Errorf("%d unacked, %d in flight, queued up to %d", unacked, w.bytes, w.queuedSeq)
	}
}

// TestWindow_ReleaseSpare releases spare memory while a batch is in flight, and when none is.
func TestWindow_ReleaseSpare(t *testing.T) {
	var w Window
	w.Add(1, Cost{InFlight: 100, Unacked: 100})
	w.ReleaseSpare()
	if unacked := w.OnQueued(1); unacked != 100 || w.bytes != 0 {
		t.Errorf("%d unacked, %d in flight, want the batch", unacked, w.bytes)
	}
	w.ReleaseSpare()
	if n := cap(w.batches); n != 0 {
		t.Errorf("room for %d batches is kept", n)
	}
}

// TestWindow_HasRoom_UpToCredit checks that the receivers of one SEND can exceed the
// credit, and that an empty window has room for any SEND.
func TestWindow_HasRoom_UpToCredit(t *testing.T) {
	const credit = 1000
	slack := wire.SendCost(wire.MaxReceivers, 0, ReceiverCost)
	for _, test := range []struct {
		inFlight, cost int
		want           bool
	}{
		{0, 10 * (credit + slack), true},
		{1, credit + slack - 1, true},
		{1, credit + slack, false},
		{credit, slack, true},
		{credit + slack, 1, false},
	} {
		w := Window{bytes: test.inFlight}
		if got := w.HasRoom(test.cost, credit); got != test.want {
			t.Errorf("with %d bytes in flight, room for %d: %v, want %v", test.inFlight, test.cost, got, test.want)
		}
	}
}

// TestWindow_Cost_CountsReceivers compares the credit that a message takes with the cost by
// which a client expects ACKs.
func TestWindow_Cost_CountsReceivers(t *testing.T) {
	cost := CostOf(3, 100)
	if diff := cost.Unacked - cost.InFlight; diff != 3*(wire.DefaultReceiverCost-ReceiverCost) {
		t.Errorf("the costs %+v differ by %d", cost, diff)
	}
	if sum := cost.Plus(cost); sum != (Cost{2 * cost.InFlight, 2 * cost.Unacked}) {
		t.Errorf("the cost of two messages is %+v, of one %+v", sum, cost)
	}
}
