package hub

import (
	"container/list"
	"errors"
	"time"

	"github.com/sechlol/go-message-hub/internal/admission"
	"github.com/sechlol/go-message-hub/wire"
)

// A connection above Config.MaxClients or Config.MaxPerAddress is provisional while the hub
// has sessions that can be resumed: it has no slot of its own, and is read only up to its
// HELLO. It gets the slot of the session that it resumes, or is rejected.
const (
	// maxProvisional is the maximum number of provisional connections, beside one for each
	// detached session, which has no open connection.
	maxProvisional = 64

	// provisionalTimeout is how long a provisional connection has from Accept to its HELLO: as
	// long as a client's first attempt to reconnect.
	provisionalTimeout = 3 * time.Second

	// minProvisionalTime is how long a provisional connection has in any case. After that, the
	// oldest connection is rejected when another one comes and maxProvisional is reached.
	minProvisionalTime = 500 * time.Millisecond
)

// provisionalList holds the provisional connections in the order in which they came. The zero
// value is empty.
type provisionalList struct {
	order list.List // of *conn
	elems map[*conn]*list.Element
}

func (p *provisionalList) add(c *conn) {
	if p.elems == nil {
		p.elems = make(map[*conn]*list.Element)
	}
	p.elems[c] = p.order.PushBack(c)
}

// remove removes c, and reports whether it was in the list.
func (p *provisionalList) remove(c *conn) bool {
	e, ok := p.elems[c]
	if ok {
		p.order.Remove(e)
		delete(p.elems, c)
	}
	return ok
}

// oldest returns the first connection of the list if it came before that time, and nil
// otherwise.
func (p *provisionalList) oldest(before time.Time) *conn {
	front := p.order.Front()
	if front == nil {
		return nil
	}
	if c := front.Value.(*conn); c.acceptedAt.Before(before) {
		return c
	}
	return nil
}

// slot says how a connection counts against Config.MaxClients and Config.MaxPerAddress. The
// read loop owns it, except for hasClientSlot.
type slot struct {
	provisional   bool                // above a limit: the connection can only resume a session
	rejectReason  RejectReason        // the limit that a provisional connection exceeds
	ipState       admission.ConnState // how the connection counts for its address
	hasClientSlot bool                // it counts against Config.MaxClients; guarded by connSet.mu
}

// giveSlot gives c, if it is provisional, the slot of prev, whose session c resumes or replaces.
// A connection above the maximum of its address gets that slot only if prev has the same
// address. giveSlot is called by the read loop of c.
func (a *admitter) giveSlot(c, prev *conn) error {
	if !c.provisional {
		return nil
	}
	overIPLimit := c.ipState == admission.Provisional
	if overIPLimit && !admission.SameIP(c.sock.RemoteAddr(), prev.sock.RemoteAddr()) || !a.hub.conns.acquireClientSlot(c) {
		return a.rejectProvisional(c, true)
	}
	if overIPLimit {
		a.ipLimits.Promote(c.sock.RemoteAddr(), time.Now())
		c.ipState = admission.Connected
	}
	c.provisional = false
	c.sock.SetMaxLength(wire.MaxRequestLength(a.hub.config.MaxBody))
	return nil
}

// rejectProvisional counts a connection above a limit, and returns the error that ends it. A
// client of version 2 is told why.
func (a *admitter) rejectProvisional(c *conn, isV2 bool) error {
	a.recordReject(c.rejectReason, c.sock.RemoteAddr())
	err := errors.New(c.rejectReason.String())
	if isV2 || a.hub.config.DisableV1 || c.is(flagWebSocket|flagTunnel) {
		return &goAway{code: wire.GoAwayBusy, reason: CloseRefused, reconnect: true, reconnectDelay: rejectRetryDelay, err: err}
	}
	return errors.Join(errRefused, err)
}
