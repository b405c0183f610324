package hub

import (
	"errors"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// takeoverTimeout is how long the previous connection of a session has to detach in a
// takeover: longer than goAwayTimeout, and shorter than a client's first attempt to
// reconnect, which lasts 3 s.
const takeoverTimeout = 2 * time.Second

// tryResume resumes the session that HELLO names, if that is possible, and reports whether it
// did.
func (h *helloHandler) tryResume() (resumed bool, err error) {
	c := h.conn
	wasProvisional := c.provisional
	for h.hello.Resume != "" {
		prev, err := h.findDetached()
		switch {
		case err != nil:
			return false, err
		// c took the slot of a session that another connection has resumed first
		case prev == nil && wasProvisional && !c.provisional:
			return false, c.hub.admission.rejectProvisional(c, true)
		case prev == nil:
			return false, nil
		case prev.acceptedAt.After(c.acceptedAt): // the client gave up c for prev, and the HELLO is late
			return false, &goAway{code: wire.GoAwayTakenOver, reason: CloseTakenOver, err: errors.New("session resumed by a newer connection")}
		}
		if err := c.hub.admission.giveSlot(c, prev); err != nil {
			return false, err
		}
		v2 := prev.v2.Load()
		if v2.attachment.become(stateClaimed) {
			return h.resume(prev)
		}
		if !v2.awaitOtherResume() {
			break
		}
	}
	return false, nil
}

// resume moves the session of prev to this connection. prev must be claimed. If the session
// cannot be resumed, resume closes prev and returns false. If this connection is closed
// meanwhile, the session stays as it was, and can be resumed by another connection.
func (h *helloHandler) resume(prev *conn) (resumed bool, err error) {
	from, c := prev.v2.Load(), h.conn
	s := from.session
	pos, hasRead := resumePosition(&h.hello)
	retransmitted, ok := prev.sock.Resumable(pos)
	if !ok {
		prev.close(from.closeReason) // not after the release, which lets others claim prev
		from.attachment.become(stateDetached)
		return false, nil
	}
	if !h.sendWelcome(s, retransmitted, true) {
		from.releaseClaim()
		return false, errConnClosed
	}
	attempts := s.attempts
	giveUp := hasRead && s.attempts.RecordFailure(pos.Read, prev.sock.WriteStarted(pos.Read), from.connectedFor)
	omitted, ok := prev.sock.Move(&c.sock.Outbox, pos, giveUp, h.flusher)
	if !ok { // prev or c is closed
		s.attempts = attempts
		c.close(CloseLost) // WELCOME has reported success; the client can reconnect
		from.releaseClaim()
		return false, errConnClosed
	}
	c.unregister()
	c.hub.conns.setV2(c, newConnV2(c, s, h.hello.Name)) // before the id: see OnWriteError
	c.id.Store(s.id)
	s.moveTo(c)
	c.register()
	prev.releaseIP() // not later: c may detach before prev has ended
	from.attachment.become(stateMoved)
	s.sendAck()
	c.rate.resume(&c.hub.buckets, c.sock)
	c.hub.counters.resumed.Add(1)
	s.countOmitted(omitted)
	return true, nil
}

// resumePosition returns how many reliable frames a client that resumes has received, and
// whether HELLO says how many of them the last connection brought whole.
func resumePosition(h *wire.Hello) (pos outbox.Position, hasRead bool) {
	pos = outbox.Position{Acked: h.Received, Read: h.Received}
	if h.Read == nil || !h.Skip {
		return pos, false
	}
	pos.Read = *h.Read
	return pos, true
}

// awaitOtherResume waits until another connection, which resumes the session of v2, succeeds or
// fails. It returns true if the caller must look the session up again. It returns false if
// there is nothing to resume; then the connection of v2 is closed, unless the hub shuts down.
func (v2 *connV2) awaitOtherResume() bool {
	c := v2.conn
	switch v2.attachment.awaitClaim() {
	case stateMoved:
		return true
	case stateDetached:
		return !c.done.IsSet() // the session could not be resumed, which has closed c
	}
	select {
	case <-c.done.Done():
	case <-c.hub.closing:
	}
	return false
}

// findDetached returns the detached connection whose session HELLO wants to resume, or nil.
// The client must know the secret of the session. If the connection is still open,
// findDetached requests a takeover and waits until it is detached. If that takes longer than
// takeoverTimeout, on a busy machine for instance, the client is asked to reconnect, and
// keeps its id. A connection that was accepted after c is returned as it is.
func (h *helloHandler) findDetached() (*conn, error) {
	c, hello := h.conn, &h.hello
	prev := c.hub.lookup(hello.ID)
	if prev == nil || !c.canHoldID(hello.ID, c.hub.auth.grantsIDs()) {
		return nil, nil
	}
	v2 := prev.v2.Load()
	if v2 == nil || !v2.session.matchesSecret(hello.Resume) || v2.session.subject != c.subject() {
		return nil, nil
	}
	if prev.acceptedAt.After(c.acceptedAt) {
		return prev, nil // a newer connection is not taken over
	}
	v2.requestTakeover()
	return h.awaitDetached(prev)
}

// awaitDetached waits until prev, whose session is to be resumed, is detached, and returns
// prev. It returns nil if prev is closed instead.
func (h *helloHandler) awaitDetached(prev *conn) (*conn, error) {
	c := h.conn
	timeout := time.NewTimer(takeoverTimeout)
	defer timeout.Stop()
	v2 := prev.v2.Load()
	for {
		state, changed := v2.attachment.watch()
		if state.hasLeft() {
			return prev, nil
		}
		select {
		case <-changed:
		case <-prev.done.Done():
			return nil, nil
		case <-c.hub.closing:
			return nil, nil
		case <-c.done.Done():
			return nil, errConnClosed
		case <-timeout.C:
			return nil, &goAway{code: wire.GoAwayBusy, reason: CloseLost, reconnect: true, err: errors.New("previous connection is still closing")}
		}
	}
}
