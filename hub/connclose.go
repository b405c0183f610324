package hub

import (
	"errors"
	"io"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// rstAvoidanceDelay is how long a client has to read the end of the stream at shutdown before
// the hub closes the connection. If the hub closed it while bytes of the client were unread,
// the kernel would send a reset and discard what the client has not yet read.
const rstAvoidanceDelay = 100 * time.Millisecond

// finishReading ends a connection whose reading has ended with err. A connection of version 2
// first waits for another connection to resume its session.
func (c *conn) finishReading(err error) {
	c.hub.admission.warnUnexpectedHeader(c.sock.RemoteAddr(), err, !c.firstFrameSeen)
	if c.provisional && (errors.Is(err, socket.ErrInterrupted) || errors.Is(err, wire.ErrTooLong)) && !isClosed(c.hub.closing) {
		err = c.hub.admission.rejectProvisional(c, false)
	}
	c.deadline.stop()
	if c.is(flagWebSocket) {
		err = webCloseCause(err)
	}
	v2 := c.v2.Load()
	if v2 != nil {
		err = v2.closeCause(err)
	}
	c.rate.release(&c.hub.buckets, c.sock)
	c.sock.ReleaseAll() // before any wait: others may wait for this memory
	// before another connection resumes the session, and perhaps watches
	c.hub.registry.Unwatch(watcher{c})
	c.hub.conns.reading.Done()
	resumed := v2 != nil && v2.awaitResume(err)
	if !resumed {
		c.close(c.finishWriting(err))
	}
	c.sock.Wait()
	if v2 != nil && !resumed {
		v2.session.verdicts.Fail()
	}
	if c.flags.Or(flagEnded)&flagRenewing == 0 { // otherwise authenticateAgain does it
		c.releaseSlots()
	}
}

// releaseSlots gives back what limits the number of connections. It is called once, when the
// connection has ended, and Config.Authenticate looks at no token of it any more: clients that
// come and go would otherwise have more calls under way than there can be connections.
func (c *conn) releaseSlots() {
	c.releaseIP()
	c.hub.upgrades.remove(c)
	c.hub.conns.remove(c)
}

// releaseIP gives back the slot that the connection has among those of its address. Only the
// first call counts. ipState must not change afterwards.
func (c *conn) releaseIP() {
	if c.flags.Or(flagIPReleased)&flagIPReleased == 0 {
		c.hub.admission.ipLimits.Release(c.sock.RemoteAddr(), c.ipState, time.Now())
	}
}

// finishWriting writes what the client is still to get after its reading has ended with err,
// and returns the close reason.
func (c *conn) finishWriting(err error) CloseReason {
	var away *goAway
	reason := c.reasonFor(err)
	c.sock.SetCloseStatus(closeStatusOf(reason, err))
	switch {
	case errors.As(err, &away) && !away.resumable: // otherwise awaitResume has sent it
		c.closeWithGoAway(away)
	case reason == CloseShutdown && !errors.Is(err, errHandshakeFailed):
		c.drainAtShutdown()
	case errors.Is(err, errBye), errors.Is(err, errTunnelEnded):
		if c.drain() {
			// over TLS, close_notify may follow BYE and is not read
			c.sock.CloseGracefully(rstAvoidanceDelay)
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		c.drain()
	}
	return reason
}

// reasonFor returns the CloseReason of a connection whose reading has ended with err.
func (c *conn) reasonFor(err error) CloseReason {
	v2 := c.v2.Load()
	return closeReasonOf(err, isClosed(c.hub.closing), v2 != nil && v2.timedOut.Load())
}

// drain writes what is queued for a client that has closed its side, and reports whether all
// of it was written.
func (c *conn) drain() bool {
	c.unregister()
	c.sock.DisableAcks()
	return c.sock.Drain(c.done.Done())
}

// close tears the connection down. It can be called from any goroutine. The reason of the
// first call counts. When any call returns, the teardown is complete.
func (c *conn) close(reason CloseReason) {
	c.closeOnce.Do(func() {
		c.done.Set()
		c.unregister()
		c.sock.SetCloseStatus(closeStatusOf(reason, nil))
		switch reason {
		case CloseStalled, CloseSlow:
			c.sock.Reset()
		default:
			c.sock.Close()
		}
		c.recordDisconnect(reason)
	})
}

// requestClose asks c to close, and to send away to its client if the client uses version 2. It
// can be called concurrently.
func (c *conn) requestClose(away *goAway) {
	if v2 := c.v2.Load(); v2 != nil && !v2.attachment.load().hasLeft() {
		v2.requestClose(away)
		return
	}
	if c.is(flagTunneled) {
		c.sendFrame(away.encode(), &lastOptions)
		c.sock.Interrupt()
		return
	}
	c.close(away.reason)
}

// expire is called when the permissions have expired.
func (c *conn) expire() {
	if v2 := c.v2.Load(); v2 != nil {
		v2.expire()
		return
	}
	c.close(CloseExpired)
}

// recordDisconnect counts and logs the end of the connection.
func (c *conn) recordDisconnect(reason CloseReason) {
	c.hub.counters.disconnected[reason].Add(1)
	if !c.is(flagRegistered) { // the client was never registered
		switch reason {
		case CloseHandshake, CloseRefused: // already logged
		case CloseLeft, CloseLost, CloseShutdown: // no failed handshake
		default:
			c.hub.limitedLog.LogWarn("handshake failed", "reason", reason.String(), "address", c.sock.RemoteAddr().String())
		}
		return
	}
	c.hub.config.Logger.Info("client disconnected", "client", c.id.Load(), "address", c.sock.RemoteAddr().String(), "reason", reason.String(),
		"connected_for", time.Since(c.acceptedAt).Round(time.Millisecond))
}

// sendShutdownGoAway sends a client of version 2 an ACK for its queued messages, and then
// GOAWAY. Another hub has what a tunnel carries.
func (c *conn) sendShutdownGoAway(away *goAway) {
	s := c.session()
	if s != nil {
		s.sendAck()
	} else if !c.is(flagTunneled) {
		return
	}
	c.sendFrame(away.encode(), &forceOptions)
}

// drainAtShutdown ends a healthy connection at shutdown: once no connection is read any more,
// it writes what is queued, and closes gracefully.
func (c *conn) drainAtShutdown() {
	c.sock.DisableAcks() // senders must not stay blocked by a window that opens no more
	select {
	case <-c.hub.readersDone:
	case <-c.done.Done():
		return
	}
	c.drainWithGoAway(c.hub.newShutdownGoAway(true))
}

// drainBeforeShutdown ends a healthy connection before Shutdown, as drainAtShutdown does.
// Other clients can still send, but do not find the client any more.
func (c *conn) drainBeforeShutdown(away *goAway) {
	c.unregister()
	c.sock.DisableAcks()
	c.drainWithGoAway(away)
}

// drainWithGoAway writes what is queued and then away, and closes gracefully.
func (c *conn) drainWithGoAway(away *goAway) {
	c.sendShutdownGoAway(away)
	if c.sock.Drain(c.done.Done()) {
		c.sock.CloseGracefully(rstAvoidanceDelay)
	}
}

// closeWithGoAway sends GOAWAY and closes the connection, within goAwayTimeout unless the hub
// shuts down.
func (c *conn) closeWithGoAway(away *goAway) {
	if away.code == wire.GoAwayShutdown {
		c.drainBeforeShutdown(away)
		return
	}
	c.unregister()
	c.sock.DisableAcks() // ACKs are not read any more
	timeout := time.AfterFunc(goAwayTimeout, func() { c.close(away.reason) })
	defer timeout.Stop()
	if c.sendFrame(away.encode(), &priorityOptions) && c.sock.Drain(c.done.Done()) {
		c.sock.CloseGracefully(rstAvoidanceDelay)
	}
}
