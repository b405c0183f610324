package hub

import (
	"sync/atomic"
	"time"
)

// connV2 is the version 2 state of a connection, from HELLO on.
type connV2 struct {
	session     *session
	name        string // for display
	attachment  attachment
	interrupted latch // set when the reader must not wait any more

	goAway atomic.Pointer[goAway] // why the hub closes the connection; nil: it does not

	// Static once attachment is detached.
	closeReason  CloseReason
	connectedFor time.Duration // how long the connection lasted

	timedOut   atomic.Bool     // nothing arrived for two keep-alive intervals
	lastSample keepAliveSample // owned by Hub.keepAliveLoop
}

func newConnV2(s *session, name string) *connV2 {
	return &connV2{session: s, name: sanitizeName(name)}
}

// session returns the session of c, or nil if the client does not speak version 2 or c is
// nil.
func (c *conn) session() *session {
	if c == nil {
		return nil
	}
	if v2 := c.v2.Load(); v2 != nil {
		return v2.session
	}
	return nil
}

// interruptWaits ends every wait of the read loop: for room, credit, its rate limit, or
// memory. It does not end the reading of what has already arrived.
func (c *conn) interruptWaits() {
	c.v2.Load().interrupted.Set()
	c.account.Interrupt()
}
