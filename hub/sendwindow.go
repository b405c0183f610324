package hub

import "github.com/sechlol/go-message-hub/wire"

// receiverCost is the credit that each receiver of a SEND takes, in bytes
// (docs/decisions/0016).
const receiverCost = 16

// sendCost is the credit that SENDs take, in bytes.
type sendCost struct {
	inFlight int // with receiverCost: counts against Config.Credit
	// with wire.DefaultReceiverCost, by which a client that does not know that field expects
	// ACKs
	unacked int
}

func costOf(m *wire.Send) sendCost {
	return sendCost{
		inFlight: wire.SendCost(m.To.Len(), len(m.Body), receiverCost),
		unacked:  wire.SendCost(m.To.Len(), len(m.Body), wire.DefaultReceiverCost),
	}
}

func (c sendCost) plus(d sendCost) sendCost {
	return sendCost{c.inFlight + d.inFlight, c.unacked + d.unacked}
}

// sendWindow bounds the SENDs of a client that are in flight: offered to their receivers, but
// not yet queued for all of them. The zero value is empty. Its methods must not be called
// concurrently.
type sendWindow struct {
	batches   []inFlightSends
	bytes     int    // cost of batches
	queuedSeq uint64 // seq up to which all SENDs are queued
}

// inFlightSends is a batch of SENDs that was offered to its receivers.
type inFlightSends struct {
	lastSeq uint64 // of the last SEND
	cost    sendCost
	queued  bool // for all receivers, or failed
}

// hasRoom reports whether one more SEND of that cost, in bytes, can be offered within credit.
// The receivers of one SEND can exceed the credit, and a SEND alone always has room.
func (w *sendWindow) hasRoom(cost, credit int) bool {
	return w.bytes == 0 || w.bytes+cost <= credit+wire.SendCost(wire.MaxReceivers, 0, receiverCost)
}

// add adds a batch of SENDs that was offered.
func (w *sendWindow) add(lastSeq uint64, cost sendCost) {
	w.batches = append(w.batches, inFlightSends{lastSeq: lastSeq, cost: cost})
	w.bytes += cost.inFlight
}

// onQueued records that all SENDs of the batch that ends with lastSeq are queued, or have
// failed. A batch leaves the window after all batches before it. unacked is the cost of the
// batches that leave it now, for which the client expects an ACK.
func (w *sendWindow) onQueued(lastSeq uint64) (unacked int) {
	for i := range w.batches {
		if w.batches[i].lastSeq == lastSeq {
			w.batches[i].queued = true
			break
		}
	}
	n := 0
	for n < len(w.batches) && w.batches[n].queued {
		w.bytes -= w.batches[n].cost.inFlight
		unacked += w.batches[n].cost.unacked
		w.queuedSeq = w.batches[n].lastSeq
		n++
	}
	w.batches = append(w.batches[:0], w.batches[n:]...)
	return unacked
}
