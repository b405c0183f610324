package relay

import "github.com/sechlol/go-message-hub/wire"

// ReceiverCost is the credit that each receiver of a SEND takes, in bytes
// (docs/decisions/0016).
const ReceiverCost = 16

// Cost is the credit that messages take, in bytes.
type Cost struct {
	InFlight int // with ReceiverCost: counts against the credit
	Unacked  int // with wire.DefaultReceiverCost, by which a client that does not know ReceiverCost expects ACKs
}

// CostOf returns the cost of a message with a body of bodyLen bytes.
func CostOf(receivers, bodyLen int) Cost {
	return Cost{
		InFlight: wire.SendCost(receivers, bodyLen, ReceiverCost),
		Unacked:  wire.SendCost(receivers, bodyLen, wire.DefaultReceiverCost),
	}
}

// Plus returns the sum of both costs.
func (c Cost) Plus(d Cost) Cost { return Cost{c.InFlight + d.InFlight, c.Unacked + d.Unacked} }

// Window bounds the messages of an origin that are in flight: offered to their receivers, but not
// yet queued for all of them. The zero value is empty. Its methods must not be called
// concurrently.
type Window struct {
	batches   []inFlightBatch
	bytes     int    // cost of batches
	queuedSeq uint64 // seq up to which all messages are queued
}

// inFlightBatch is a batch of messages that was offered to its receivers.
type inFlightBatch struct {
	lastSeq uint64 // of its last message
	cost    Cost
	queued  bool // for all receivers, or failed
}

// HasRoom reports whether one more message of that cost, in bytes, can be offered within credit.
func (w *Window) HasRoom(cost, credit int) bool { return FitsCredit(w.bytes, cost, credit) }

// FitsCredit reports whether a message of that cost can be offered while inFlight bytes are in
// flight. The receivers of one message can exceed the credit, and a message alone always fits.
func FitsCredit(inFlight, cost, credit int) bool {
	return inFlight == 0 || inFlight+cost <= credit+wire.SendCost(wire.MaxReceivers, 0, ReceiverCost)
}

// Bytes returns the cost of the messages in flight.
func (w *Window) Bytes() int { return w.bytes }

// QueuedSeq returns the seq up to which all messages are queued.
func (w *Window) QueuedSeq() uint64 { return w.queuedSeq }

// Add adds a batch of messages that is about to be offered.
func (w *Window) Add(lastSeq uint64, cost Cost) {
	w.batches = append(w.batches, inFlightBatch{lastSeq: lastSeq, cost: cost})
	w.bytes += cost.InFlight
}

// ReleaseSpare releases the memory that an empty window keeps for later batches.
func (w *Window) ReleaseSpare() {
	if len(w.batches) == 0 {
		w.batches = nil
	}
}

// OnQueued records that all messages of the batch that ends with lastSeq are queued, or have
// failed. A batch leaves the window after all batches before it. unacked is the cost of the
// batches that leave it now, for which the client expects an ACK.
func (w *Window) OnQueued(lastSeq uint64) (unacked int) {
	for i := range w.batches {
		if w.batches[i].lastSeq == lastSeq {
			w.batches[i].queued = true
			break
		}
	}
	n := 0
	for n < len(w.batches) && w.batches[n].queued {
		w.bytes -= w.batches[n].cost.InFlight
		unacked += w.batches[n].cost.Unacked
		w.queuedSeq = w.batches[n].lastSeq
		n++
	}
	w.batches = append(w.batches[:0], w.batches[n:]...)
	return unacked
}
