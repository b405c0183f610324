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

	// minProvisional is how long a provisional connection has in any case. After that the oldest one
	// is refused when another comes and there are as many as there may be.
	minProvisional = 500 * time.Millisecond
)

// provisionals are the provisional connections, in the order in which they came. The zero value
// has none.
type provisionals struct {
	order list.List // of *session
	at    map[*session]*list.Element
}

func (p *provisionals) add(s *session) {
	if p.at == nil {
		p.at = make(map[*session]*list.Element)
	}
	p.at[s] = p.order.PushBack(s)
}

// remove reports whether s was one of them.
func (p *provisionals) remove(s *session) bool {
	e, there := p.at[s]
	if there {
		p.order.Remove(e)
		delete(p.at, s)
	}
	return there
}

// oldest returns the one that came first, and nil if there is none that came before a time.
func (p *provisionals) oldest(before time.Time) *session {
	front := p.order.Front()
	if front == nil {
		return nil
	}
	if s := front.Value.(*session); s.since.Before(before) {
		return s
	}
	return nil
}

// limitProvisional bounds what a provisional connection may say, and how long it may take for it.
func (s *session) limitProvisional() {
	s.conn.SetMaxLength(1 + wire.HelloMost)
	s.due = time.AfterFunc(provisionalTimeout, s.conn.Interrupt)
}

// takePlaceOf makes a provisional connection one that has a place: that of old, which it resumes or
// replaces. Within the limit of an address it has that place only if old had it.
func (s *session) takePlaceOf(old *session) error {
	if !s.provisional {
		return nil
	}
	h := s.hub
	crowded := s.standing == provisional
	if crowded && !sameAddress(s.conn.RemoteAddr(), old.conn.RemoteAddr()) || !h.tracker.place(s) {
		return s.turnAway(true)
	}
	if crowded {
		h.addresses.move(s.conn.RemoteAddr(), provisional, connected, time.Now())
		s.standing = connected
	}
	s.provisional = false
	s.conn.SetMaxLength(wire.MaxRequest(h.config.MaxBody))
	return nil
}

// replaced returns the session whose id the client has been granted as well, or nil.
func (s *session) replaced() *session {
	if s.grant == nil || s.grant.ID == 0 {
		return nil
	}
	return s.hub.find(s.grant.ID)
}

// turnAway counts a connection that is one too many, and returns the error that ends it. A client
// that speaks version 2 is told why.
func (s *session) turnAway(speaks2 bool) error {
	s.hub.countRefused(s.refusal, s.conn.RemoteAddr())
	err := errors.New(s.refusal.String())
	if speaks2 || s.hub.config.NoClassic {
		return &goAway{code: wire.GoAwayBusy, reason: ReasonRefused, reconnect: true, after: busyPause, err: err}
	}
	return errors.Join(errRefused, err)
}
