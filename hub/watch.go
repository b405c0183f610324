package hub

import (
	"cmp"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// looks is how often per stall timeout the sessions are looked at while memory is
// short. Each look is compared with the one a whole stall timeout before it: a
// client has that long to earn what it holds. Over one second, and even over
// five, machines that were busy elsewhere and connections in retransmission were
// taken for slow clients (docs/decisions/0002).
const looks = 4

// watched is what the last looks have seen of a session, while memory is short.
type watched struct {
	samples [looks + 1]sample // of the looks of a whole stall timeout, by turns
	kept    kept
}

// sample is what a session had moved at one look.
type sample struct {
	at      time.Time // zero: nobody has looked
	pulse   socket.Pulse
	brought int64
}

// kept is what was kept for a client at one look.
type kept struct {
	socket.Kept
	at time.Time // zero: nobody has looked
}

// watch sees to it that memory which others wait for is earned: while anybody
// waits for some, a client that holds some and moves less than Config.MinRate is
// disconnected. It sleeps while nobody waits, and ends when nobody reads any more.
func (h *Hub) watch() {
	for {
		select {
		case <-h.bodies.Pressed():
			h.relieve()
		case <-h.quiet:
			return
		}
	}
}

// keepLeast is for how long what was written to a client is kept although others wait
// for the memory: longer than one that is alive takes to say that it has had it, and
// than one that has lost its connection takes to come back at the first attempts.
const keepLeast = 500 * time.Millisecond

// hurryEvery is how often clients are asked what they have received, and the slow are looked for, while somebody waits for
// memory, and hurryPause for how long they are not when they were, if somebody else begins to wait. Where they are
// many, the pause is nine times what that took.
const (
	hurryEvery = 5 * time.Millisecond
	hurryPause = time.Millisecond
)

// evictEvery is how long the others have to make something of what one client has given up
// that was too slow for it. When hundreds were disconnected at one time, the thousands who waited for just
// that memory all ran at once: for 50 ms nobody else did.
const evictEvery = time.Millisecond

// relief is what the hub does while somebody waits for memory, and for a stall timeout after that: who waits again then is not
// to wait until it is known anew who is slow.
type relief struct {
	hub      *Hub
	last     int        // which of the samples is of the last look
	pressing bool       // somebody waited when it was looked what could be given up
	slow     []holder   // those who were found too slow, the largest last
	sessions []*session // of this moment
	sizes    []int      // scratch space of askMost
}

// holder is a session that is too slow for what it holds.
type holder struct {
	*session
	before sample // how it stood a stall timeout ago, at least
	bytes  int    // what is free when it is gone, about
}

// relieve looks at all sessions for as long as somebody waits. What is kept for
// those who may come back is what it asks about at once, and gives up first.
func (h *Hub) relieve() {
	tick := time.NewTicker(h.config.StallTimeout / looks)
	defer tick.Stop()
	giveUp := time.NewTicker(min(keepLeast, h.config.StallTimeout/looks))
	defer giveUp.Stop()
	hurry := time.NewTicker(hurryEvery)
	defer hurry.Stop()
	evict := time.NewTicker(evictEvery)
	defer evict.Stop()
	r := &relief{hub: h}
	defer r.end()
	r.look()
	r.giveUp()
	rested, pressed := r.hurry(), time.Now()
	for {
		due := evict.C
		if len(r.slow) == 0 {
			due = nil
		}
		again := false
		select {
		case <-h.bodies.Pressed():
			again = true
		case <-hurry.C:
			again = h.bodies.Anybody()
		case <-due:
			r.evict()
		case <-tick.C:
			r.look()
		case <-giveUp.C:
			r.giveUp()
		case <-h.quiet:
			return
		}
		now := time.Now()
		if again && now.After(rested) {
			rested = r.hurry()
		}
		switch {
		case again || h.bodies.Anybody():
			pressed = now
		case now.Sub(pressed) >= h.config.StallTimeout:
			return
		}
	}
}

// hurry does what can be done at once. It returns when it may be called again.
func (r *relief) hurry() (rested time.Time) {
	began := time.Now()
	r.askMost()
	if len(r.slow) == 0 {
		r.judge()
	}
	now := time.Now()
	return now.Add(max(hurryPause, 9*now.Sub(began)))
}

// all returns the sessions of this moment, which are good until it is called again.
func (r *relief) all() []*session {
	clear(r.sessions) // those who have ended meanwhile
	r.sessions = r.hub.tracker.appendTo(r.sessions[:0])
	return r.sessions
}

// end forgets what was seen.
func (r *relief) end() {
	for _, s := range r.all() {
		s.watched = nil
	}
}

// askMost has those clients for which most is kept say what they have received, by a PING: those with at
// least half of what is kept for one on average. Unasked they say so at half of their window, or some
// time later.
func (r *relief) askMost() {
	r.sizes = r.sizes[:0]
	total, keepers := 0, 0
	for _, s := range r.all() {
		size := 0
		if s.peer() != nil {
			size = s.conn.Kept().Bytes
		}
		r.sizes = append(r.sizes, size)
		if size > 0 {
			total += size
			keepers++
		}
	}
	for i, s := range r.sessions {
		if r.sizes[i] > 0 && 2*r.sizes[i]*keepers >= total {
			s.peer().ping(s)
		}
	}
}

// ask has those of them to whom the client may send say what they have received.
func (s *session) ask(ids wire.IDs) {
	for id := range ids.All() {
		if s.grant != nil && s.grant.May != nil && !s.grant.May(id) {
			continue // nor may it have the hub disturb them
		}
		if r := s.hub.find(id); r.peer() != nil && r.conn.Kept().Bytes > 0 {
			r.peer().ping(r)
		}
	}
}

// giveUp gives up what is kept for clients that have not acknowledged what was kept when
// they were looked at last, nor as much as they must, if somebody has waited since.
func (r *relief) giveUp() {
	at := time.Now()
	waited := r.pressing // so they had the time to say something
	r.pressing = r.hub.bodies.Anybody()
	for _, s := range r.all() {
		if s.peer() == nil {
			continue
		}
		w := s.watch()
		last, now := w.kept, kept{s.conn.Kept(), at}
		switch {
		case now.Bytes == 0:
			w.kept = kept{}
		case r.pressing && waited && !last.at.IsZero() && now.Acknowledged < last.Frames &&
			float64(now.Freed-last.Freed) < float64(r.hub.config.MinRate)*at.Sub(last.at).Seconds():
			w.kept = kept{}
			s.dropKept()
		default:
			w.kept = now
		}
	}
}

// look notes how every session stands, and judges them.
func (r *relief) look() {
	r.last = (r.last + 1) % (looks + 1)
	at := time.Now()
	for _, s := range r.all() {
		s.watch().samples[r.last] = newSample(s, at)
	}
	r.judge()
}

// judge compares how every session stands with how it stood a whole stall timeout before, or a little more, and finds
// those that are too slow for the memory that they hold.
func (r *relief) judge() {
	clear(r.slow)
	r.slow = r.slow[:0]
	short, at := r.hub.bodies.Waiting(), time.Now()
	then := (r.last + 1) % (looks + 1)
	for _, s := range r.all() {
		if s.watched == nil || s.watched.samples[then].at.IsZero() {
			continue
		}
		before, now := s.watched.samples[then], newSample(s, at)
		if !s.delays(before, now, short) {
			continue
		}
		bytes := now.pulse.Queued
		if _, holds := s.conn.Holding(); holds {
			bytes += r.hub.config.MaxBody
		}
		r.slow = append(r.slow, holder{s, before, bytes})
	}
	slices.SortFunc(r.slow, func(a, b holder) int { return cmp.Compare(a.bytes, b.bytes) })
}

func newSample(s *session, at time.Time) sample {
	brought := s.conn.Brought()
	if _, holds := s.conn.Holding(); holds { // if the hub is slow, that is not the client's fault
		brought = s.conn.Arrived()
	}
	return sample{at, s.conn.Pulse(), brought}
}

// watch returns what was seen of the session.
func (s *session) watch() *watched {
	if s.watched == nil {
		s.watched = new(watched)
	}
	return s.watched
}

// evict ends the largest of those who are too slow, if it still is and what it holds still delays anybody.
func (r *relief) evict() {
	for last := len(r.slow) - 1; last >= 0; last-- {
		s := r.slow[last]
		r.slow[last], r.slow = holder{}, r.slow[:last]
		if !s.done.IsSet() && s.delays(s.before, newSample(s.session, time.Now()), r.hub.bodies.Waiting()) {
			s.end(ReasonSlow)
			return
		}
	}
}

// delays reports whether the client is too slow for memory that somebody waits for: in the budget, which is short then, or
// in a share.
func (s *session) delays(before, now sample, short bool) bool {
	return s.takesTooLittle(before, now) && (short || s.delaysAShare()) || short && s.bringsTooLittle(before, now)
}

// takesTooLittle reports whether the client had something to take all the time,
// and took less than it must.
func (s *session) takesTooLittle(before, now sample) bool {
	return before.pulse.Busy && now.pulse.Busy && before.pulse.Dried == now.pulse.Dried &&
		s.tooLittle(now.pulse.Sent-before.pulse.Sent, before, now)
}

// bringsTooLittle does so for the rest of a frame that the client owes, unless it is the hub that does not read it.
func (s *session) bringsTooLittle(before, now sample) bool {
	since, holds := s.conn.Holding()
	return holds && !s.is(flagResting) && since.Before(before.at) && s.tooLittle(now.brought-before.brought, before, now)
}

func (s *session) tooLittle(moved int64, before, now sample) bool {
	return float64(moved) < float64(s.hub.config.MinRate)*now.at.Sub(before.at).Seconds()
}

// yield gives up what is kept for the client, whose messages wait for memory, if others wait for
// just that: while it waits nobody hears what it acknowledges. What is charged to those who wait for
// nothing helps nobody.
func (s *session) yield() {
	if s.hub.bodies.Waiting() || anyWaits(s.conn.KeptAccounts) {
		s.dropKept()
	}
}

// dropKept gives up what is kept for the client, and the memory of REPORTs of which nothing else is needed.
func (s *session) dropKept() {
	s.conn.DropKept()
	if p := s.peer(); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tidy()
	}
}

// delaysAShare reports whether something queued for the client belongs to a
// sender that waits for room in its share.
func (s *session) delaysAShare() bool {
	return anyWaits(s.conn.Accounts)
}

// anyWaits reports whether one of the accounts waits for room in its share.
func anyWaits(accounts func(to []*body.Account) []*body.Account) bool {
	var room [8]*body.Account
	for _, a := range accounts(room[:0]) {
		if a.Waiting() {
			return true
		}
	}
	return false
}
