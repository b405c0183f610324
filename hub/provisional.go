package hub

import (
	"container/list"
	"errors"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// A connection beyond Config.MaxClients or Config.MaxPerAddress is provisional while the hub has
// sessions that can be resumed: it has no place of its own, and is let in as far as its HELLO. It
// gets the place of the session that it resumes, or is refused.
const (
	// maxProvisional is how many provisional connections there may be, beside one for each session
	// that is detached and so has no connection.
	maxProvisional = 64

	// maxProvisionalPerAddress is how many of them may come from one address beyond its limit.
	maxProvisionalPerAddress = 16

	// provisionalTimeout is how long a provisional connection has from accept to its HELLO: as long
	// as a client's first attempt to come back.
	provisionalTimeout = 3 * time.Second

	// minProvisionalTime is how long a provisional connection has in any case. After that the oldest one
	// is refused when another comes and there are as many as there may be.
	minProvisionalTime = 500 * time.Millisecond
)

// provisionalList are the provisional connections, in the order in which they came. The zero value
// has none.
type provisionalList struct {
	order list.List // of *session
	elems map[*conn]*list.Element
}

func (p *provisionalList) add(c *conn) {
	if p.elems == nil {
		p.elems = make(map[*conn]*list.Element)
	}
	p.elems[c] = p.order.PushBack(c)
}

// remove reports whether s was one of them.
func (p *provisionalList) remove(c *conn) bool {
	e, ok := p.elems[c]
	if ok {
		p.order.Remove(e)
		delete(p.elems, c)
	}
	return ok
}

// oldest returns the one that came first, and nil if there is none that came before a time.
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

// limitProvisional bounds what a provisional connection may say, and how long it may take for it.
func (c *conn) limitProvisional() {
	c.sock.SetMaxLength(1 + wire.MaxHelloLen)
	c.deadlineTimer = time.AfterFunc(provisionalTimeout, c.sock.Interrupt)
}

// takeSlotOf makes a provisional connection one that has a place: that of old, which it resumes or
// replaces. Within the limit of an address it has that place only if old had it.
func (c *conn) takeSlotOf(prev *conn) error {
	if !c.provisional {
		return nil
	}
	h := c.hub
	overIPLimit := c.ipSlot == ipProvisional
	if overIPLimit && !sameIPKey(c.sock.RemoteAddr(), prev.sock.RemoteAddr()) || !h.conns.acquireClientSlot(c) {
		return c.rejectProvisional(true)
	}
	if overIPLimit {
		h.ipLimits.move(c.sock.RemoteAddr(), ipProvisional, ipConnected, time.Now())
		c.ipSlot = ipConnected
	}
	c.provisional = false
	c.sock.SetMaxLength(wire.MaxRequestLength(h.config.MaxBody))
	return nil
}

// connWithGrantedID returns the session whose id the client has been granted as well, or nil.
func (c *conn) connWithGrantedID() *conn {
	if c.permissions == nil || c.permissions.ID == 0 {
		return nil
	}
	return c.hub.lookup(c.permissions.ID)
}

// rejectProvisional counts a connection that is one too many, and returns the error that ends it. A client
// that speaks version 2 is told why.
func (c *conn) rejectProvisional(isV2 bool) error {
	c.hub.recordReject(c.rejectReason, c.sock.RemoteAddr())
	err := errors.New(c.rejectReason.String())
	if isV2 || c.hub.config.DisableV1 {
		return &goAway{code: wire.GoAwayBusy, reason: CloseRefused, reconnect: true, reconnectDelay: rejectRetryDelay, err: err}
	}
	return errors.Join(errRefused, err)
}
