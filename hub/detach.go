package hub

import (
	"errors"
	"time"

	"github.com/sechlol/go-message-hub/internal/admission"
	"github.com/sechlol/go-message-hub/wire"
)

// awaitResume ends a connection of version 2. If its session can be resumed after err, it
// detaches the session for resumeWindow. It reports whether another connection has resumed the
// session; then c is over, and the client has not left.
func (c *conn) awaitResume(err error) bool {
	v2 := c.v2.Load()
	if v2 == nil {
		return false
	}
	if isResumable(err) && !isClosed(c.hub.closing) && c.detach(v2, err) {
		c.hub.conns.addDetached(1)
		defer c.hub.conns.addDetached(-1)
		v2.attachment.become(stateDetached)
		c.waitInWindow(v2)
	}
	if !v2.attachment.closeUnlessMoved() {
		return false
	}
	c.closeOnce.Do(func() { c.recordDisconnect(v2.closeReason) }) // unless close was called just now
	return true
}

// detach ends the reading and writing of c because of err, and keeps what the client has not
// received. It returns false if the session cannot be resumed.
func (c *conn) detach(v2 *connV2, err error) bool {
	if !c.sock.Detach() {
		return false
	}
	isTakeover := v2.attachment.load() == stateTakeoverRequested
	var away *goAway
	switch {
	case isTakeover:
		notice := goAway{code: wire.GoAwayTakenOver, err: errors.New("session resumed by another connection")}
		c.sock.CloseWithFrame(notice.encode(), goAwayTimeout)
	case errors.As(err, &away):
		c.sock.CloseWithFrame(away.encode(), goAwayTimeout)
	default:
		c.sock.CloseTransport()
	}
	c.sock.Outbox.Wait()
	if !c.hub.ipLimits.Detach(c.sock.RemoteAddr(), isTakeover, time.Now()) {
		return false
	}
	c.ipState = admission.Detached
	c.hub.config.Logger.Debug("client detached", "client", c.id.Load(), "cause", err)
	v2.closeReason = c.closeReason(err)
	if isTakeover {
		v2.closeReason = CloseTakenOver
	}
	v2.connectedFor = time.Since(c.acceptedAt)
	return true
}

// waitInWindow waits until the session has moved, or the resume window is over.
func (c *conn) waitInWindow(v2 *connV2) {
	window := time.NewTimer(c.resumeWindow())
	defer window.Stop()
	for {
		state, changed := v2.attachment.watch()
		if state == stateMoved {
			return
		}
		select {
		case <-changed:
		case <-c.done.Done():
			return
		case <-c.hub.closing:
			return
		case <-window.C:
			return
		}
	}
}

// requestTakeover asks c to detach because another connection is resuming its session.
func (c *conn) requestTakeover() {
	if c.v2.Load().attachment.become(stateTakeoverRequested) {
		c.interruptWaits()
		c.sock.Interrupt()
	}
}

// releaseClaim makes c, which is claimed, detached again. Another connection can resume its
// session, unless c is closed.
func (c *conn) releaseClaim() {
	c.sock.CancelResume()
	c.v2.Load().attachment.become(stateDetached)
}

// maxUnconfirmedWindow is the maximum resume window of a client that has promised to confirm
// WELCOME and has not. Most likely such a client does not know the secret with which to
// resume. If only the confirmation was lost with the connection, the client's first attempts
// come well within that time.
const maxUnconfirmedWindow = 5 * time.Second

// resumeWindow returns how long the session waits to be resumed.
func (c *conn) resumeWindow() time.Duration {
	if c.unconfirmed {
		return min(c.hub.config.ResumeWindow, maxUnconfirmedWindow)
	}
	return c.hub.config.ResumeWindow
}
