package hub

import (
	"sync"
	"time"
)

// registerAfter is how long a connection is not registered while its first frame has not come: until
// then nobody knows which version of the protocol its client speaks, or whether it resumes a session.
// A client of version 1 may listen only, and must be found all the same.
//
// Those that come within registerSlack are looked at together.
const (
	registerAfter = time.Second
	registerSlack = 10 * time.Millisecond
)

// unregistered is a queue of the connections whose first frame had not come when they came. It must
// be initialized.
//
// Of thousands that come and leave in one second it lets go before their time: when a block is
// full, those of it and of the block before that have ended are taken out.
type unregistered struct {
	wake chan struct{} // capacity 1: the queue was empty

	mu          sync.Mutex
	first, last *unregisteredBlock // in the order of their times; only a single one may be empty
	before      *unregisteredBlock // the one before last; nil: there is none, or it is taken
}

// unregisteredBlock is a part of the queue, which grows and shrinks by blocks: thousands that come in one
// second would make a slice of half a megabyte, and as much garbage on the way there.
type unregisteredBlock struct {
	next     *unregisteredBlock
	from, to int // which of the sessions are in the queue; nil: it has ended
	sessions [64]struct {
		*session
		at time.Duration // when it is registered if no frame has come, from the start of the hub
	}
}

func (u *unregistered) init() {
	u.wake = make(chan struct{}, 1)
	u.first = new(unregisteredBlock)
	u.last = u.first
}

// add has a session registered after registerAfter, unless its first frame comes before.
func (u *unregistered) add(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	b := u.last
	if b.to == len(b.sessions) {
		b.letGo()
		if u.before != nil {
			u.before.letGo()
		}
		b.next = new(unregisteredBlock)
		u.before, b = b, b.next
		u.last = b
	}
	e := &b.sessions[b.to]
	e.session, e.at = s, time.Since(s.hub.started)+registerAfter
	b.to++
	if b == u.first && b.to-b.from == 1 {
		select {
		case u.wake <- struct{}{}:
		default:
		}
	}
}

// letGo takes out the sessions that have ended.
func (b *unregisteredBlock) letGo() {
	for i := b.from; i < b.to; i++ {
		if e := &b.sessions[i]; e.session != nil && e.done.IsSet() {
			e.session = nil
		}
	}
}

// take takes out the first session if its time has come; now is how long the hub has been there. Otherwise it
// returns nil, and how long it is until then; 0: there is none.
func (u *unregistered) take(now time.Duration) (s *session, wait time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for s == nil {
		b := u.first
		if b.from == b.to {
			return nil, 0
		}
		e := &b.sessions[b.from]
		if wait = e.at - now; wait > 0 && e.session != nil {
			return nil, wait
		}
		s, e.session = e.session, nil
		b.from++
		switch {
		case b.from < b.to:
		case b.next != nil:
			if u.first = b.next; u.before == b {
				u.before = nil
			}
		default:
			b.from, b.to = 0, 0
		}
	}
	return s, 0
}

// registerSilent registers the clients that have sent no frame for a while. It ends when the hub does.
func (h *Hub) registerSilent() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s, wait := h.unregistered.take(time.Since(h.started))
		if s != nil {
			s.entry.Do(s.enter)
			continue
		}
		var again <-chan time.Time
		if wait > 0 {
			timer.Reset(wait + registerSlack)
			again = timer.C
		}
		select {
		case <-h.unregistered.wake:
		case <-again:
		case <-h.closing:
			return
		}
	}
}
