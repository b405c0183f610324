package hub

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
)

// watchPart is the part of the stall timeout over which a rate is measured while
// memory is short: long enough that a retransmission, or a machine that is busy
// elsewhere, is not taken for a slow client (with a second, both were).
const watchPart = 2

// sample is what a session had moved at one look.
type sample struct {
	at      time.Time
	pulse   socket.Pulse
	brought int64
}

// watch sees to it that memory which others wait for is earned: while anybody
// waits for some, a client that holds some and moves less than Config.MinRate is
// disconnected. It sleeps while nobody waits, and ends when the hub closes.
func (h *Hub) watch() {
	for {
		select {
		case <-h.bodies.Pressed():
			h.relieve()
		case <-h.closing:
			return
		}
	}
}

// relieve looks at all sessions once per interval for as long as somebody waits.
func (h *Hub) relieve() {
	tick := time.NewTicker(h.config.StallTimeout / watchPart)
	defer tick.Stop()
	last := map[*session]sample{}
	for waiting := true; waiting; {
		last = h.look(last)
		select {
		case <-tick.C:
		case <-h.closing:
			return
		}
		waiting = h.anyoneWaits()
	}
}

// anyoneWaits reports whether a session waits for memory, be it the hub's or its
// own share.
func (h *Hub) anyoneWaits() bool {
	if h.bodies.Waiting() {
		return true
	}
	for _, s := range h.tracker.all() {
		if s.account.Waiting() {
			return true
		}
	}
	return false
}

// look compares every session with how it stood at the last look, and ends those
// that are too slow for the memory that they hold.
func (h *Hub) look(last map[*session]sample) map[*session]sample {
	short := h.bodies.Waiting()
	next := make(map[*session]sample, len(last))
	for _, s := range h.tracker.all() {
		now := sample{time.Now(), s.conn.Pulse(), s.conn.Brought()}
		next[s] = now
		before, known := last[s]
		switch {
		case !known:
		case s.takesTooLittle(before, now) && (short || s.delaysAShare()):
			s.end(ReasonSlow)
		case short && s.bringsTooLittle(before, now):
			s.end(ReasonSlow)
		}
	}
	return next
}

// takesTooLittle reports whether the client had something to take all the time,
// and took less than it must.
func (s *session) takesTooLittle(before, now sample) bool {
	return before.pulse.Busy && now.pulse.Busy && before.pulse.Dried == now.pulse.Dried &&
		s.tooLittle(now.pulse.Sent-before.pulse.Sent, before, now)
}

// bringsTooLittle does so for the rest of a frame that the client owes.
func (s *session) bringsTooLittle(before, now sample) bool {
	since, holds := s.conn.Holding()
	return holds && since.Before(before.at) && s.tooLittle(now.brought-before.brought, before, now)
}

func (s *session) tooLittle(moved int64, before, now sample) bool {
	return float64(moved) < float64(s.hub.config.MinRate)*now.at.Sub(before.at).Seconds()
}

// delaysAShare reports whether something queued for the client belongs to a
// sender that waits for room in its share.
func (s *session) delaysAShare() bool {
	var room [8]*body.Account
	for _, a := range s.conn.Accounts(room[:0]) {
		if a.Waiting() {
			return true
		}
	}
	return false
}
