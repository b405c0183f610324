package client

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// callbackGrace is how long Close waits, beyond Options.CloseTimeout, for a function of the
// application that a goroutine of the client has called, such as Options.OnMessage.
const callbackGrace = time.Second

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
// Close itself, the error is an ErrCallback: the client is over, its goroutine ends with that
// function, and none but functions that wait for reports is called any more.
func (c *Client) Close() error {
	c.close.Do(func() {
		close(c.closing)
		c.inbox.discard(ErrClosed)
		go c.finish() // ends with the functions of the application; Close waits for it
	})
	bound := c.options.CloseTimeout
	if bound < math.MaxInt64-callbackGrace {
		bound += callbackGrace
	}
	patience := time.NewTimer(bound)
	defer patience.Stop()
	select {
	case <-c.closed:
		return c.unsent()
	case <-patience.C:
		c.abandoned.Store(true)
		return errors.Join(fmt.Errorf("client: %w", ErrCallback), c.unsent())
	}
}

// finish does what Close is for.
func (c *Client) finish() {
	defer close(c.closed)
	c.leave()
	c.fail(ErrClosed)
	<-c.done // somebody else may be about it
	<-c.stopped
	c.outgoing.timers.Wait()
}

// leave empties the outbox, tells the hub that nothing more will come, and gives
// it the time to take it: closing while something of the hub's is unread would
// reset the connection, and what is still under way could be lost.
func (c *Client) leave() {
	patience := time.AfterFunc(c.options.CloseTimeout, func() { c.fail(ErrClosed) })
	defer patience.Stop()
	for l := c.last(); l != nil; l = c.last() {
		switch {
		case (!c.newer() || c.outgoing.fly(l, c.done)) && l.conn.Drain(c.done) && (!c.newer() || c.bid(l)):
			if l.conn.CloseWrite() == nil || c.newer() { // there, BYE says so
				<-c.stopped // the reading goroutine discards what comes, until the hub's end
			}
			return
		case !c.newer():
			return
		}
		select {
		case <-l.over: // there may be another
		case <-c.done:
			return
		}
	}
}

// bid says goodbye in version 2, when everything else is written.
func (c *Client) bid(l *link) bool {
	c.tellReceived()
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	l.say(wire.AppendBye(nil), &last)
	return l.conn.Drain(c.done)
}

// last returns the connection on which to leave. Without one it waits for it if
// something is still to be sent.
func (c *Client) last() *link {
	for {
		c.mu.Lock()
		l, changed := c.link, c.changed
		c.mu.Unlock()
		if l != nil || !c.newer() || c.outgoing.left() == 0 {
			return l
		}
		select {
		case <-changed:
		case <-c.outgoing.flown: // perhaps because the rest has expired
		case <-c.done:
			return nil
		}
	}
}

// unsent returns an error if something that Send took did not leave.
func (c *Client) unsent() error {
	n := int(c.counts.lost.Load()) + c.outgoing.left()
	if n > 0 {
		return fmt.Errorf("client: %d messages were not sent: %w", n, c.Err())
	}
	return nil
}
