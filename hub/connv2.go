package hub

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// connV2 is the version 2 state of a connection, from HELLO on. It knows how the connection
// stands to its session, and how the hub ends the connection. Unless stated otherwise, its
// methods can be called concurrently.
type connV2 struct {
	// Static after newConnV2.
	conn    *conn
	session *session
	name    string // for display

	attachment  attachment
	interrupted latch                  // set when the reader must not wait any more
	goAway      atomic.Pointer[goAway] // why the hub closes the connection; nil: it does not
	timedOut    atomic.Bool            // nothing arrived for two keep-alive intervals

	// Owned by the read loop.
	unconfirmed bool // WELCOME is not confirmed: perhaps the client cannot resume

	// Static once attachment is detached.
	closeReason  CloseReason
	connectedFor time.Duration // how long the connection lasted

	lastSample keepAliveSample // owned by keepAliveLoop
}

func newConnV2(c *conn, s *session, name string) *connV2 {
	return &connV2{conn: c, session: s, name: sanitizeName(name)}
}

// interruptWaits ends every wait of the read loop: for room, credit, its rate limit, or
// memory. It does not end the reading of what has already arrived.
func (v2 *connV2) interruptWaits() {
	v2.interrupted.Set()
	v2.conn.account.Interrupt()
}

// interrupt ends the reading, and every wait of the read loop. It has no effect on a detached
// connection.
func (v2 *connV2) interrupt() {
	v2.interruptWaits()
	v2.conn.sock.Interrupt()
}

// closeCause returns why the connection ends whose reading has ended with err. A GOAWAY of the
// hub takes precedence over err, except when it lets the client resume and the client has
// left for good.
func (v2 *connV2) closeCause(err error) error {
	if away := v2.goAway.Load(); away != nil && (!away.resumable || isResumable(err)) {
		return away
	}
	return err
}

// requestClose asks the connection to close, and to send away to its client. The first request
// counts, but a request after which the session cannot be resumed replaces one after which it
// can.
func (v2 *connV2) requestClose(away *goAway) {
	for {
		prev := v2.goAway.Load()
		if prev != nil && !prev.resumable {
			return
		}
		if v2.goAway.CompareAndSwap(prev, away) {
			break
		}
	}
	c := v2.conn
	c.unregister()
	if away.code == wire.GoAwayShutdown { // a shutdown has no timeout of its own; Shutdown ends it
		c.sock.Interrupt()
		return
	}
	v2.interrupt()
	// The goroutine that reads can wait for memory or be about to wait for a resume. It then does
	// not see the interrupt. The timer has no effect on a closed connection.
	time.AfterFunc(goAwayTimeout, func() { c.close(away.reason) })
}

// detachTimeout is how long a session can take to detach after the permissions of its client
// have expired. It bounds what a client whose read loop waits for memory still receives.
const detachTimeout = 3 * goAwayTimeout

// expire detaches the session, as if the connection were lost: the client resumes it with new
// credentials.
func (v2 *connV2) expire() {
	away := &goAway{
		code: wire.GoAwayExpired, reason: CloseExpired, reconnect: true, resumable: true,
		err: fmt.Errorf("%w: reconnect with new credentials", ErrExpired),
	}
	if !v2.goAway.CompareAndSwap(nil, away) {
		return
	}
	v2.interrupted.Set()
	v2.conn.sock.Interrupt()
	time.AfterFunc(detachTimeout, func() {
		if !v2.attachment.load().hasLeft() {
			v2.conn.close(CloseExpired)
		}
	})
}
