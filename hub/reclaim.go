package hub

import (
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/reclaim"
	"github.com/sechlol/go-message-hub/internal/relay"
)

// reclaimable is a connection as package reclaim sees it.
type reclaimable struct{ *conn }

// ReclaimState implements reclaim.Conn.
func (r reclaimable) ReclaimState() *reclaim.State { return &r.reclaimState }

// AckStats implements reclaim.Conn.
func (r reclaimable) AckStats() outbox.AckStats {
	if r.session() == nil {
		return outbox.AckStats{}
	}
	return r.sock.AckStats()
}

// RequestAck implements reclaim.Conn. It sends a PING, which makes the client acknowledge.
func (r reclaimable) RequestAck() {
	if s := r.session(); s != nil {
		s.sendPing(r.conn)
	}
}

// DropUnacked implements reclaim.Conn. It also drops the buffer for REPORT frames if nothing
// else uses it.
func (r reclaimable) DropUnacked() {
	r.sock.DropUnacked()
	if s := r.session(); s != nil {
		s.releaseUnusedReportBuf()
	}
}

// Sample implements reclaim.Conn.
func (r reclaimable) Sample() reclaim.Sample {
	s := reclaim.Sample{Closed: r.done.IsSet(), RateLimited: r.is(flagRateLimited), BytesRead: r.sock.BytesRead()}
	if since, holding := r.sock.HeldSince(); holding {
		s.HeldSince = since
		s.BytesRead = r.sock.BytesArrived() // the client has sent them, even if the hub has not read them
	}
	s.Written = r.sock.Progress()
	return s
}

// DelaysSender implements reclaim.Conn.
func (r reclaimable) DelaysSender() bool { return anyWaiting(r.sock.Accounts) }

// Evict implements reclaim.Conn.
func (r reclaimable) Evict() { r.close(CloseSlow) }

// dropUnackedIfUseful drops the unacknowledged messages of a client whose own read loop waits
// for memory, because that loop does not read acknowledgements meanwhile. It does so only if
// another client waits for room in the budget or in the quota of a sender whose messages these
// are. Otherwise dropping them helps no client.
func (r reclaimable) dropUnackedIfUseful() {
	if r.hub.bodies.HasQueuedWaiters() || anyWaiting(r.sock.UnackedAccounts) {
		r.DropUnacked()
	}
}

// anyWaiting reports whether one of the accounts waits for room in its quota.
func anyWaiting(accounts func(to []*body.Account) []*body.Account) bool {
	var buf [8]*body.Account
	for _, a := range accounts(buf[:0]) {
		if a.WaitsForQuota() {
			return true
		}
	}
	return false
}

// requestAck requests an acknowledgement from a receiver that has unacknowledged messages. nil
// is allowed.
func requestAck(receiver relay.Destination) {
	var retainer reclaim.Retainer
	switch d := receiver.(type) {
	case destination:
		retainer = reclaimable{d.conn}
	case *subscriber:
		retainer = d
	default:
		return
	}
	if retainer.AckStats().HeldBytes > 0 {
		retainer.RequestAck()
	}
}
