package hub

// ackSchedule decides when a client gets an ACK for its SENDs that are queued. At most one ACK
// waits to be written. The zero value is ready. Its methods must not be called concurrently.
type ackSchedule struct {
	unacked   int  // cost of the SENDs that were queued since the last ACK, in bytes
	pending   bool // an ACK waits to be written: no other is needed
	requested bool // the next ACK does not wait for the threshold
}

// next reports whether an ACK is due because the queued SENDs cost at least threshold bytes,
// or because an ACK was requested. The caller must then send one.
func (a *ackSchedule) next(threshold int) bool {
	if a.requested {
		threshold = 1
	}
	if a.pending || a.unacked < threshold {
		return false
	}
	*a = ackSchedule{pending: true}
	return true
}

// nextNow is next for an ACK that does not wait for a threshold. While another ACK is pending,
// it requests the next one.
func (a *ackSchedule) nextNow() bool {
	a.requested = a.requested || a.pending
	return a.next(1)
}

// onWritten records that the pending ACK was written or lost. inFlight says whether SENDs are
// in flight. Without any, and with none to be acknowledged, a request has been met.
func (a *ackSchedule) onWritten(inFlight bool) {
	a.pending = false
	a.requested = a.requested && (inFlight || a.unacked > 0)
}
