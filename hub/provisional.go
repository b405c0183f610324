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

// limitProvisional bounds the length of a provisional connection's first frame, and the time
// for it.
func (c *conn) limitProvisional() {
	c.sock.SetMaxLength(1 + wire.MaxHelloLen)
	c.deadlineTimer = time.AfterFunc(provisionalTimeout, c.sock.Interrupt)
}

// takeSlotOf gives a provisional connection the slot of prev, whose session it resumes or
// replaces. A connection above the maximum of its address gets that slot only if prev has the
// same address.
func (c *conn) takeSlotOf(prev *conn) error {
	if !c.provisional {
		return nil
	}
	h := c.hub
	overIPLimit := c.ipState == admission.Provisional
	if overIPLimit && !admission.SameIP(c.sock.RemoteAddr(), prev.sock.RemoteAddr()) || !h.conns.acquireClientSlot(c) {
		return c.rejectProvisional(true)
	}
	if overIPLimit {
		h.ipLimits.Promote(c.sock.RemoteAddr(), time.Now())
		c.ipState = admission.Connected
	}
	c.provisional = false
	c.sock.SetMaxLength(wire.MaxRequestLength(h.config.MaxBody))
	return nil
}

// connWithGrantedID returns the connection that has the id that the client was granted, or
// nil.
func (c *conn) connWithGrantedID() *conn {
	if c.permissions == nil || c.permissions.ID == 0 {
		return nil
	}
	return c.hub.lookup(c.permissions.ID)
}

// rejectProvisional counts a connection above a limit, and returns the error that ends it. A
// client of version 2 is told why.
func (c *conn) rejectProvisional(isV2 bool) error {
	c.hub.recordReject(c.rejectReason, c.sock.RemoteAddr())
	err := errors.New(c.rejectReason.String())
	if isV2 || c.hub.config.DisableV1 {
		return &goAway{code: wire.GoAwayBusy, reason: CloseRefused, reconnect: true, reconnectDelay: rejectRetryDelay, err: err}
	}
	return errors.Join(errRefused, err)
}
