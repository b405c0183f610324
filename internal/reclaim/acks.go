package reclaim

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// minRetention is the minimum time for which the hub keeps unacknowledged messages while other
// clients wait for memory. It is longer than a live client takes to acknowledge, and longer
// than the first reconnect attempts of a client take.
const minRetention = 500 * time.Millisecond

// Retainer is a connection that keeps messages until its client acknowledges them.
type Retainer interface {
	// AckStats describes the unacknowledged messages. It is zero if the client acknowledges none.
	AckStats() outbox.AckStats

	// RequestAck requests an acknowledgement from the client.
	RequestAck()

	// DropUnacked drops the unacknowledged messages.
	DropUnacked()
}

// unackedSample describes the retransmit queue of a connection at one time.
type unackedSample struct {
	outbox.AckStats
	at time.Time // zero: not sampled
}

// requestAcks requests acknowledgements from the clients with the largest retransmit queues:
// those with at least half of the average size. Unrequested, a client acknowledges at half of
// its window or after a delay.
func (r *reclaimer[C]) requestAcks() {
	r.sizes = r.sizes[:0]
	total, holders := 0, 0
	for _, c := range r.listConns() {
		size := c.AckStats().HeldBytes
		r.sizes = append(r.sizes, size)
		if size > 0 {
			total += size
			holders++
		}
	}
	for i, c := range r.conns {
		if r.sizes[i] > 0 && 2*r.sizes[i]*holders >= total {
			c.RequestAck()
		}
	}
}

// dropUnacked drops the unacknowledged messages of each client that, since the last call, has
// not acknowledged all messages that were unacknowledged at that call and has acknowledged
// fewer bytes than MinRate requires. It drops them only if clients waited for memory at both
// calls.
func (r *reclaimer[C]) dropUnacked() {
	at := time.Now()
	hadWaiters := r.hadWaiters // clients had the time since then to acknowledge
	r.hadWaiters = r.Budget.HasWaiters()
	for _, c := range r.listConns() {
		state, current := c.ReclaimState(), unackedSample{c.AckStats(), at}
		if current.HeldBytes == 0 {
			if state.samples != nil {
				state.unacked = unackedSample{}
			}
			continue
		}
		state.ensure()
		prev := state.unacked
		if r.hadWaiters && hadWaiters && !prev.at.IsZero() && current.Acked < prev.Written &&
			r.belowMinRate(int64(current.FreedBytes-prev.FreedBytes), at.Sub(prev.at)) {
			state.unacked = unackedSample{}
			c.DropUnacked()
			continue
		}
		state.unacked = current
	}
}
