package hub

import (
	"errors"
	"time"

	"github.com/sechlol/go-message-hub/internal/admission"
	"github.com/sechlol/go-message-hub/wire"
)

// awaitResume ends the connection. If its session can be resumed after err, it detaches the
// session for resumeWindow. It reports whether another connection has resumed the session; then
// the connection is over, and the client has not left. The read loop calls it, at its end.
func (v2 *connV2) awaitResume(err error) bool {
	c := v2.conn
	if isResumable(err) && !isClosed(c.hub.closing) && v2.detach(err) {
		c.hub.conns.addDetached(1)
		defer c.hub.conns.addDetached(-1)
		v2.attachment.become(stateDetached)
		v2.waitInWindow()
	}
	if !v2.attachment.closeUnlessMoved() {
		return false
	}
	c.closeOnce.Do(func() { c.recordDisconnect(v2.closeReason) }) // unless close was called just now
	return true
}

// detach ends the reading and writing because of err, and keeps what the client has not
// received. It returns false if the session cannot be resumed.
func (v2 *connV2) detach(err error) bool {
	c := v2.conn
	if !c.sock.Detach() {
		return false
	}
	isTakeover := v2.attachment.load() == stateTakeoverRequested
	c.sock.SetCloseStatus(closeStatusOf(c.reasonFor(err), err))
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
	if !c.hub.admission.ipLimits.Detach(c.sock.RemoteAddr(), isTakeover, time.Now()) {
		return false
	}
	c.ipState = admission.Detached
	c.hub.config.Logger.Debug("client detached", "client", c.id.Load(), "cause", err)
	v2.closeReason = c.reasonFor(err)
	if isTakeover {
		v2.closeReason = CloseTakenOver
	}
	v2.connectedFor = time.Since(c.acceptedAt)
	return true
}

// waitInWindow waits until the session has moved, or the resume window is over.
func (v2 *connV2) waitInWindow() {
	window := time.NewTimer(v2.resumeWindow())
	defer window.Stop()
	for {
		state, changed := v2.attachment.watch()
		if state == stateMoved {
			return
		}
		select {
		case <-changed:
		case <-v2.conn.done.Done():
			return
		case <-v2.conn.hub.closing:
			return
		case <-window.C:
			return
		}
	}
}

// requestTakeover asks the connection to detach because another one is resuming its session.
func (v2 *connV2) requestTakeover() {
	if v2.attachment.become(stateTakeoverRequested) {
		v2.interrupt()
	}
}

// releaseClaim makes the connection, which is claimed, detached again. Another connection can
// resume its session, unless this one is closed.
func (v2 *connV2) releaseClaim() {
	v2.conn.sock.CancelResume()
	v2.attachment.become(stateDetached)
}

// maxUnconfirmedWindow is the maximum resume window of a client that has promised to confirm
// WELCOME and has not. Most likely such a client does not know the secret with which to
// resume. If only the confirmation was lost with the connection, the client's first attempts
// come well within that time.
const maxUnconfirmedWindow = 5 * time.Second

// resumeWindow returns how long the session waits to be resumed.
func (v2 *connV2) resumeWindow() time.Duration {
	window := v2.conn.hub.config.ResumeWindow
	if v2.unconfirmed {
		return min(window, maxUnconfirmedWindow)
	}
	return window
}
