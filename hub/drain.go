package hub

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// SendGoAway tells the clients of version 2 that the hub is about to end and ends their connections: one after
// another, evenly over the time that is given, or all at once if that is 0. Each is told up to which of its messages
// the hub has taken, and gets what is queued for it. Shutdown, which should follow, bounds how long that may take. Meanwhile
// the hub serves on, and accepts: so it can be called while load balancers learn that new connections belong elsewhere. Clients
// of version 1, those that are expected back, and those that come meanwhile stay until Shutdown.
//
// It returns when all have been told, or with the cause of ctx when that ends before, or with ErrClosed once Shutdown
// is called.
func (h *Hub) SendGoAway(ctx context.Context, over time.Duration) error {
	var sessions []*session
	for _, s := range h.tracker.all() {
		if s.link.Load() != nil {
			sessions = append(sessions, s)
		}
	}
	slices.SortFunc(sessions, func(a, b *session) int { return a.since.Compare(b.since) }) // those that came last go last
	began, next := time.Now(), time.NewTimer(0)
	defer next.Stop()
	for i, s := range sessions {
		next.Reset(time.Until(began.Add(over / time.Duration(len(sessions)) * time.Duration(i))))
		select {
		case <-next.C:
		case <-h.closing:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if l := s.link.Load(); !l.detached.IsSet() {
			s.sendAway(h.shutdownGoAway(over == 0))
		}
	}
	return nil
}

// shutdownGoAway returns what a client is told when the hub ends: to come back at a time of its own, so that not all come
// at once. If all are told at once, that is the later the more they are.
func (h *Hub) shutdownGoAway(all bool) *goAway {
	spread := time.Second
	if all {
		clients, _ := h.roster.Size()
		spread += time.Duration(clients) * time.Millisecond
	}
	return &goAway{
		code: wire.GoAwayShutdown, reason: ReasonShutdown, reconnect: true, after: rand.N(spread),
		err: errors.New("the hub ends"),
	}
}

// bid tells a client of version 2 what the hub has taken of it, and then that the hub ends.
func (s *session) bid(away *goAway) {
	p := s.peer()
	if p == nil {
		return
	}
	p.tell(1)
	s.post(away.frame(), &insisting)
}

// depart ends a healthy connection at shutdown: when no session offers anything
// any more it lets the queue empty, and then the client see the end.
func (s *session) depart() {
	s.conn.LetGo() // for what makes others wait would wait for acknowledgements
	select {
	case <-s.hub.quiet:
	case <-s.done.Done():
		return
	}
	s.bidAndDrain(s.hub.shutdownGoAway(true))
}

// retire ends a healthy connection before shutdown, as depart does: others may still offer
// something, but do not find the client any more.
func (s *session) retire(away *goAway) {
	s.unlist()
	s.conn.LetGo()
	s.bidAndDrain(away)
}

// bidAndDrain lets the queue empty behind the last words, and then the client see the end.
func (s *session) bidAndDrain(away *goAway) {
	s.bid(away)
	if s.conn.Drain(s.done.Done()) {
		s.conn.Farewell(farewell)
	}
}
