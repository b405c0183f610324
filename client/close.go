package client

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// callbackTimeout is how long Close waits, beyond Options.CloseTimeout, for a function of the
// application that a goroutine of the client has called, such as Options.OnMessage.
const callbackTimeout = time.Second

// Close sends what Send has taken, for at most Options.CloseTimeout, leaves the hub for
// good and waits for the client's goroutines. Blocked calls return
// ErrClosed. It returns an error when something that Send has taken has perhaps not
// reached the hub; in version 1 it cannot know of what the kernel had taken when the
// connection broke. A client that has lost its connection and has nothing to send does not
// come back to say that it leaves: the hub keeps its place for as long as it keeps that of
// anybody who may come back. It may be called more than once.
//
// Close returns within Options.CloseTimeout and a second. If a function of the application that
// the client has called has not returned by then, because it waits for something or has called
// Close itself, the error is an ErrCallbackBlocked: the client is over, its goroutine ends with that
// function, and none but functions that wait for reports is called any more.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		close(c.closing)
		c.inbox.discard(ErrClosed)
		go c.finishClose() // ends with the functions of the application; Close waits for it
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

// finishClose does what Close is for.
func (c *Client) finishClose() {
	defer close(c.closed)
	c.drain()
	c.fail(ErrClosed)
	<-c.done // somebody else may be about it
	<-c.readerDone
	c.sendQueue.timers.Wait()
}

// drain empties the outbox, tells the hub that nothing more will come, and gives
// it the time to take it: closing while something of the hub's is unread would
// reset the connection, and what is still under way could be lost.
func (c *Client) drain() {
	timer := time.AfterFunc(c.options.CloseTimeout, func() { c.fail(ErrClosed) })
	defer timer.Stop()
	for cn := c.connForClose(); cn != nil; cn = c.connForClose() {
		switch {
		case (!c.isV2() || c.sendQueue.flush(cn, c.done)) && cn.sock.Drain(c.done) && (!c.isV2() || c.sendBye(cn)):
			if cn.sock.CloseWrite() == nil || c.isV2() { // there, BYE says so
				<-c.readerDone // the reading goroutine discards what comes, until the hub's end
			}
			return
		case !c.isV2():
			return
		}
		select {
		case <-cn.done: // there may be another
		case <-c.done:
			return
		}
	}
}

// sendBye says goodbye in version 2, when everything else is written.
func (c *Client) sendBye(cn *conn) bool {
	c.sendAck()
	c.mu.Lock()
	c.byeSent = true
	c.mu.Unlock()
	cn.sendFrame(wire.AppendBye(nil), &byeOptions)
	return cn.sock.Drain(c.done)
}

// connForClose returns the connection on which to leave. Without one it waits for it if
// something is still to be sent.
func (c *Client) connForClose() *conn {
	for {
		c.mu.Lock()
		cn, changed := c.conn, c.connChanged
		c.mu.Unlock()
		if cn != nil || !c.isV2() || c.sendQueue.len() == 0 {
			return cn
		}
		select {
		case <-changed:
		case <-c.sendQueue.flushed: // perhaps because the rest has expired
		case <-c.done:
			return nil
		}
	}
}

// unsentErr returns an error if something that Send took did not leave.
func (c *Client) unsentErr() error {
	n := int(c.counts.dropped.Load()) + c.sendQueue.len()
	if n > 0 {
		return fmt.Errorf("client: %d messages were not sent: %w", n, c.Err())
	}
	return nil
}
