package client

// sendWindow decides when the next message can be put in flight: by the credit of the hub, and
// by the maximum number of reports that can be pending. It has no lock of its own: sendQueue.mu
// guards it.
type sendWindow struct {
	limits         sendLimits // of the hub
	inFlight       int        // cost of the messages in flight
	pendingReports int        // messages that wait for a report, in flight or acknowledged
	creditBlocked  bool       // the credit was used up, and less than half is free again
	probed         bool       // probed, and no ACK has come since: see shouldProbe
}

// canSend reports whether p can be put in flight. When the credit was used up, sending stops
// until half of the credit is free again: many messages then leave together and the hub relays
// them together, instead of one at a time.
func (w *sendWindow) canSend(p *pendingSend) bool {
	maxInFlight := w.limits.credit
	if w.creditBlocked {
		maxInFlight /= 2
	}
	w.creditBlocked = w.inFlight > 0 && (w.inFlight+p.cost > w.limits.credit || w.inFlight > maxInFlight)
	return !w.creditBlocked && (!p.wantsReport || w.pendingReports < w.limits.maxReports)
}

// onSent accounts for a message that is put in flight.
func (w *sendWindow) onSent(p *pendingSend) {
	w.inFlight += p.cost
	if p.wantsReport {
		w.pendingReports++
	}
}

// onUnsent accounts for a message that was in flight and will be sent again, or dropped.
func (w *sendWindow) onUnsent(p *pendingSend) {
	w.inFlight -= p.cost
	if p.wantsReport {
		w.pendingReports--
	}
}

// onAcked accounts for a message that the hub has acknowledged or refused. Its report can still
// come.
func (w *sendWindow) onAcked(p *pendingSend) { w.inFlight -= p.cost }

// ackFraction: the hub sends an ACK by itself for each 1/ackFraction of the credit
// (docs/PROTOCOL.md).
const ackFraction = 4

// shouldProbe reports whether a client whose sending is blocked must probe the hub, because the
// cost in flight is so low that the hub sends no ACK by itself. It returns true once until the
// next ACK.
func (w *sendWindow) shouldProbe() bool {
	if w.probed || w.inFlight == 0 || w.inFlight >= w.limits.credit/ackFraction {
		return false
	}
	w.probed = true
	return true
}

// setLimits sets the limits of the hub of a new connection.
func (w *sendWindow) setLimits(limits sendLimits) {
	w.limits, w.creditBlocked, w.probed = limits, false, false
}
