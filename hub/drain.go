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
func (h *Hub) SendGoAway(ctx context.Context, period time.Duration) error {
	var conns []*conn
	for _, c := range h.conns.snapshot() {
		if c.v2.Load() != nil {
			conns = append(conns, c)
		}
	}
	slices.SortFunc(conns, func(a, b *conn) int { return a.acceptedAt.Compare(b.acceptedAt) }) // those that came last go last
	start, timer := time.Now(), time.NewTimer(0)
	defer timer.Stop()
	for i, c := range conns {
		timer.Reset(time.Until(start.Add(period / time.Duration(len(conns)) * time.Duration(i))))
		select {
		case <-timer.C:
		case <-h.closing:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if v2 := c.v2.Load(); !v2.detached.IsSet() {
			c.requestClose(h.newShutdownGoAway(period == 0))
		}
	}
	return nil
}

// newShutdownGoAway returns what a client is told when the hub ends: to come back at a time of its own, so that not all come
// at once. If all are told at once, that is the later the more they are.
func (h *Hub) newShutdownGoAway(simultaneous bool) *goAway {
	spread := time.Second
	if simultaneous {
		clients, _ := h.roster.Size()
		spread += time.Duration(clients) * time.Millisecond
	}
	return &goAway{
		code: wire.GoAwayShutdown, reason: CloseShutdown, reconnect: true, reconnectDelay: rand.N(spread),
		err: errors.New("the hub ends"),
	}
}

// sendShutdownGoAway tells a client of version 2 what the hub has taken of it, and then that the hub ends.
func (c *conn) sendShutdownGoAway(away *goAway) {
	s := c.session()
	if s == nil {
		return
	}
	s.sendAck(1)
	c.sendFrame(away.encode(), &forceOptions)
}

// drainAtShutdown ends a healthy connection at shutdown: when no session offers anything
// any more it lets the queue empty, and then the client see the end.
func (c *conn) drainAtShutdown() {
	c.sock.DisableAcks() // for what makes others wait would wait for acknowledgements
	select {
	case <-c.hub.readersDone:
	case <-c.done.Done():
		return
	}
	c.drainWithGoAway(c.hub.newShutdownGoAway(true))
}

// drainBeforeShutdown ends a healthy connection before shutdown, as depart does: others may still offer
// something, but do not find the client any more.
func (c *conn) drainBeforeShutdown(away *goAway) {
	c.unregister()
	c.sock.DisableAcks()
	c.drainWithGoAway(away)
}

// drainWithGoAway lets the queue empty behind the last words, and then the client see the end.
func (c *conn) drainWithGoAway(away *goAway) {
	c.sendShutdownGoAway(away)
	if c.sock.Drain(c.done.Done()) {
		c.sock.CloseGracefully(rstAvoidanceDelay)
	}
}
