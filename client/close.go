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
		close(c.closing)
		c.inbox.discard(ErrClosed)
		go c.finishClose() // ends when running callbacks have returned; Close waits for it
	})
	timeout := c.options.CloseTimeout
	if timeout < math.MaxInt64-callbackTimeout {
		timeout += callbackTimeout
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-c.closed:
		return c.unsentErr()
	case <-timer.C:
		c.callbacksDisabled.Store(true)
		return errors.Join(fmt.Errorf("client: %w", ErrCallbackBlocked), c.unsentErr())
	}
}

// finishClose drains the client, ends it and waits for its goroutines.
func (c *Client) finishClose() {
	defer close(c.closed)
	c.drain()
	c.fail(ErrClosed)
	<-c.done // another goroutine may be in fail
	<-c.readerDone
	c.sendQueue.waitTimers()
}

// drain flushes the send queue and the outbox, says BYE and waits until the hub closes the
// connection. Closing a TCP connection with unread data resets it, and data on its way to the
// hub could be lost.
func (c *Client) drain() {
	timer := time.AfterFunc(c.options.CloseTimeout, func() { c.fail(ErrClosed) })
	defer timer.Stop()
	for cn := c.connForClose(); cn != nil; cn = c.connForClose() {
		switch {
		case (!c.isV2() || c.sendQueue.flush(cn, c.done)) && cn.sock.Drain(c.done) && (!c.isV2() || c.sendBye(cn)):
			if cn.sock.CloseWrite() == nil || c.isV2() { // in version 2, BYE ends the stream
				<-c.readerDone // the read goroutine discards frames until the hub closes the connection
			}
			return
		case !c.isV2():
			return
		}
		select {
		case <-cn.done: // the client may reconnect
		case <-c.done:
			return
		}
	}
}

// sendBye sends the last ACK and BYE. The caller has flushed everything else.
func (c *Client) sendBye(cn *conn) bool {
	c.sendAck()
	c.mu.Lock()
	c.byeSent = true
	c.mu.Unlock()
	cn.sendFrame(wire.AppendBye(nil), &byeOptions)
	return cn.sock.Drain(c.done)
}

// connForClose returns the connection on which to send BYE. While the client is disconnected
// and messages are queued, connForClose waits for the next connection.
func (c *Client) connForClose() *conn {
	for {
		c.mu.Lock()
		cn, changed := c.conn, c.connChanged
		c.mu.Unlock()
		if cn != nil || !c.isV2() || c.sendQueue.count() == 0 {
			return cn
		}
		select {
		case <-changed:
		case <-c.sendQueue.flushed: // the remaining messages may have expired
		case <-c.done:
			return nil
		}
	}
}

// unsentErr returns an error if queued messages were not sent.
func (c *Client) unsentErr() error {
	n := int(c.counts.dropped.Load()) + c.sendQueue.count()
	if n > 0 {
		return fmt.Errorf("client: %d messages were not sent: %w", n, c.Err())
	}
	return nil
}
