package hub

import (
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/reclaim"
	"github.com/sechlol/go-message-hub/wire"
)

// requestReceiverAcks requests acknowledgements from those receivers in ids to which the client
// is permitted to send and that have unacknowledged messages.
func (c *conn) requestReceiverAcks(ids wire.IDs) {
	for id := range ids.All() {
		if c.permissions != nil && c.permissions.CanSend != nil && !c.permissions.CanSend(id) {
			continue // a client must not cause PINGs to receivers to which it cannot send
		}
		requestAck(c.hub.lookup(id))
	}
}

// requestAck requests an acknowledgement from a connection that has unacknowledged messages. nil
// is allowed.
func requestAck(receiver *conn) {
	if receiver != nil && receiver.AckStats().HeldBytes > 0 {
		receiver.RequestAck()
	}
}

// reclaimUnacked drops the unacknowledged messages of a client whose own read loop waits for
// memory, because that loop does not read acknowledgements meanwhile. It does so only if
// another client waits for room in the budget or in the quota of a sender whose messages these
// are. Otherwise dropping them helps no client.
func (c *conn) reclaimUnacked() {
	if c.hub.bodies.HasQueuedWaiters() || anyWaiting(c.sock.UnackedAccounts) {
		c.DropUnacked()
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

// The following methods implement reclaim.Conn.

func (c *conn) ReclaimState() *reclaim.State { return &c.reclaimState }

func (c *conn) AckStats() outbox.AckStats {
	if c.session() == nil {
		return outbox.AckStats{}
	}
	return c.sock.AckStats()
}

// RequestAck sends a PING, which makes the client acknowledge.
func (c *conn) RequestAck() {
	if s := c.session(); s != nil {
		s.sendPing(c)
	}
}

// DropUnacked also drops the buffer for REPORT frames if nothing else uses it.
func (c *conn) DropUnacked() {
	c.sock.DropUnacked()
	if s := c.session(); s != nil {
		s.releaseUnusedReportBuf()
	}
}

func (c *conn) Sample() reclaim.Sample {
	s := reclaim.Sample{Closed: c.done.IsSet(), RateLimited: c.is(flagRateLimited), BytesRead: c.sock.BytesRead()}
	if since, holding := c.sock.HeldSince(); holding {
		s.HeldSince = since
		s.BytesRead = c.sock.BytesArrived() // the client has sent them, even if the hub has not read them
	}
	s.Written = c.sock.Progress()
	return s
}

func (c *conn) DelaysSender() bool { return anyWaiting(c.sock.Accounts) }

func (c *conn) Evict() { c.close(CloseSlow) }
