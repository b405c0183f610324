package hub

import (
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// TestSendWindow_Batches_LeaveInOrder queues batches out of order. A batch leaves the window
// only after those before it.
func TestSendWindow_Batches_LeaveInOrder(t *testing.T) {
	var w sendWindow
	for seq := uint64(1); seq <= 4; seq++ {
		w.add(seq*10, sendCost{inFlight: 100, unacked: 1 << seq})
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
		unacked := w.onQueued(step.lastSeq)
		if unacked != step.unacked || w.bytes != step.bytes || w.queuedSeq != step.queuedSeq {
			t.Errorf("after batch %d: %d unacked, %d in flight, queued up to %d, want %+v", step.lastSeq, unacked, w.bytes, w.queuedSeq, step)
		}
	}
	if len(w.batches) != 0 {
		t.Errorf("%d batches are left", len(w.batches))
	}
}

// TestSendWindow_UnknownBatch_ChangesNothing queues a batch that is not in the window.
func TestSendWindow_UnknownBatch_ChangesNothing(t *testing.T) {
	var w sendWindow
	w.add(1, sendCost{inFlight: 100, unacked: 100})
	if unacked := w.onQueued(2); unacked != 0 || w.bytes != 100 || w.queuedSeq != 0 {
		t.Errorf("%d unacked, %d in flight, queued up to %d", unacked, w.bytes, w.queuedSeq)
	}
}

// TestSendWindow_HasRoom_UpToCredit checks that the receivers of one SEND can exceed the
// credit, and that an empty window has room for any SEND.
func TestSendWindow_HasRoom_UpToCredit(t *testing.T) {
	const credit = 1000
	slack := wire.SendCost(wire.MaxReceivers, 0, receiverCost)
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
		w := sendWindow{bytes: test.inFlight}
		if got := w.hasRoom(test.cost, credit); got != test.want {
			t.Errorf("with %d bytes in flight, room for %d: %v, want %v", test.inFlight, test.cost, got, test.want)
		}
	}
}

// TestSendWindow_Cost_CountsReceivers compares the credit that a SEND takes with the cost by
// which a client expects ACKs.
func TestSendWindow_Cost_CountsReceivers(t *testing.T) {
	frame := wire.AppendSend(nil, 1, 0, 0, []uint64{1, 2, 3}, make([]byte, 100))
	_, payload := wire.Split(frame)
	m, err := wire.ParseSend(payload)
	if err != nil {
		t.Fatal(err)
	}
	cost := costOf(&m)
	if diff := cost.unacked - cost.inFlight; diff != 3*(wire.DefaultReceiverCost-receiverCost) {
		t.Errorf("the costs %+v differ by %d", cost, diff)
	}
	if sum := cost.plus(cost); sum != (sendCost{2 * cost.inFlight, 2 * cost.unacked}) {
		t.Errorf("the cost of two SENDs is %+v, of one %+v", sum, cost)
	}
}
