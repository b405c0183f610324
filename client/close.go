package client

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// callbackTimeout is how long Close waits for a running callback, such as Options.OnMessage, in
// addition to Options.CloseTimeout.
const callbackTimeout = time.Second

// Close sends all queued messages, for at most Options.CloseTimeout, says BYE to the hub and
// waits until the goroutines of the client have ended. Blocked calls return ErrClosed. Close
// can be called more than once, and concurrently.
//
// Close returns an error if messages that Send has queued may not have reached the hub. In
// version 1, Close cannot know about bytes that the kernel had accepted when the connection
// broke. A disconnected client with an empty send queue does not reconnect to say BYE: the hub
// keeps its session until the end of the resume window.
//
// Close returns after at most Options.CloseTimeout plus one second. If a callback has not
// returned by then, because it blocks or because it called Close itself, the error wraps
// ErrCallbackBlocked. The client has ended then. Its read goroutine ends when the callback
// returns, and only callbacks that wait for reports are still called.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		close(c.session.life.closing)
		c.session.inbox.discard(ErrClosed)
		go c.finishClose() // ends when running callbacks have returned; Close waits for it
	})
	timeout := c.session.options.CloseTimeout
	if timeout < math.MaxInt64-callbackTimeout {
		timeout += callbackTimeout
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-c.closed:
		return c.unsentErr()
	case <-timer.C:
		c.session.life.callbacksDisabled.Store(true)
		return errors.Join(fmt.Errorf("client: %w", ErrCallbackBlocked), c.unsentErr())
	}
}

// finishClose drains the client, ends it and waits for its goroutines.
func (c *Client) finishClose() {
	defer close(c.closed)
	c.drain()
	c.session.end(ErrClosed)
	<-c.Done() // another goroutine may be in session.end
	<-c.reconnector.done
	c.session.sendQueue.waitTimers()
}

// drain flushes the send queue and the outbox, says BYE and waits until the hub closes the
// connection. Closing a TCP connection with unread data resets it, and data on its way to the
// hub could be lost.
func (c *Client) drain() {
	s, ended := &c.session, c.Done()
	timer := time.AfterFunc(s.options.CloseTimeout, func() { s.end(ErrClosed) })
	defer timer.Stop()
	for cn := c.connForClose(); cn != nil; cn = c.connForClose() {
		switch {
		case (!s.isV2() || s.sendQueue.flush(cn, ended)) && cn.sock.Drain(ended) && (!s.isV2() || c.sendBye(cn)):
			if cn.sock.CloseWrite() == nil || s.isV2() { // in version 2, BYE ends the stream
				<-c.reconnector.done // the read goroutine discards frames until the hub closes the connection
			}
			return
		case !s.isV2():
			return
		}
		select {
		case <-cn.done: // the client may reconnect
		case <-ended:
			return
		}
	}
}

// sendBye sends the last ACK and BYE. The caller has flushed everything else.
func (c *Client) sendBye(cn *conn) bool {
	c.session.inbox.sendAck()
	c.session.byeSent.Store(true)
	cn.sendFrame(wire.AppendBye(nil), &byeOptions)
	return cn.sock.Drain(c.Done())
}

// connForClose returns the connection on which to send BYE. While the client is disconnected
// and messages are queued, connForClose waits for the next connection.
func (c *Client) connForClose() *conn {
	s := &c.session
	for {
		cn, changed := s.conns.get()
		if cn != nil || !s.isV2() || s.sendQueue.count() == 0 {
			return cn
		}
		select {
		case <-changed:
		case <-s.sendQueue.flushed: // the remaining messages may have expired
		case <-s.life.Done():
			return nil
		}
	}
}

// unsentErr returns an error if queued messages were not sent.
func (c *Client) unsentErr() error {
	n := int(c.session.counts.dropped.Load()) + c.session.sendQueue.count()
	if n > 0 {
		return fmt.Errorf("client: %d messages were not sent: %w", n, c.Err())
	}
	return nil
}

// abortTimeout is how long a canceled Dial tries to write BYE to the hub.
const abortTimeout = 100 * time.Millisecond

// abort ends a client whose handshake on cn has failed with err. It writes BYE, because the hub
// may have sent WELCOME at the same time, and would keep the session for the resume window. It
// reports whether the read goroutine has ended. A callback of the application can prevent that.
func (c *Client) abort(cn *conn, err error) (ended bool) {
	s := &c.session
	if s.options.Version != 1 {
		timedOut := make(chan struct{})
		defer time.AfterFunc(abortTimeout, func() { close(timedOut) }).Stop()
		cn.sendFrame(wire.AppendBye(nil), &byeOptions)
		cn.sock.Drain(timedOut)
	}
	s.end(err)
	select {
	case <-c.reconnector.done:
		return true
	case <-time.After(callbackTimeout):
		s.life.callbacksDisabled.Store(true)
		return false
	}
}
