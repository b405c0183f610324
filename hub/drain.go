package hub

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// SendGoAway tells the clients of version 2 that the hub is about to shut down, and closes
// their connections: one after another, evenly over period, or all at once if period is 0.
// Each client gets an ACK for those of its messages that the hub has taken, and what is
// queued for it. Shutdown, which should follow, bounds how long that can take. Meanwhile the
// hub serves on and accepts connections, which gives load balancers time to learn that new
// connections belong elsewhere. Clients of version 1, detached sessions, and clients that
// connect meanwhile stay until Shutdown.
//
// SendGoAway returns when all have been told, or with the cause of ctx when ctx ends before,
// or with ErrClosed once Shutdown is called.
func (h *Hub) SendGoAway(ctx context.Context, period time.Duration) error {
	var conns []*conn
	for _, c := range h.conns.snapshot() {
		if c.v2.Load() != nil {
			conns = append(conns, c)
		}
	}
	// oldest connection first
	slices.SortFunc(conns, func(a, b *conn) int { return a.acceptedAt.Compare(b.acceptedAt) })
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
		if v2 := c.v2.Load(); !v2.attachment.load().hasLeft() {
			c.requestClose(h.newShutdownGoAway(period == 0))
		}
	}
	return nil
}

// newShutdownGoAway returns the GOAWAY of a shutdown, with a random reconnect delay, which
// keeps clients from reconnecting all at once. The delay is up to 1 s, and 1 ms longer for
// each client if simultaneous says that all are told at once.
func (h *Hub) newShutdownGoAway(simultaneous bool) *goAway {
	spread := time.Second
	if simultaneous {
		clients, _ := h.registry.Size()
		spread += time.Duration(clients) * time.Millisecond
	}
	return &goAway{
		code: wire.GoAwayShutdown, reason: CloseShutdown, reconnect: true, reconnectDelay: rand.N(spread),
		err: errors.New("the hub is shutting down"),
	}
}

// sendShutdownGoAway sends a client of version 2 an ACK for its queued messages, and then
// GOAWAY.
func (c *conn) sendShutdownGoAway(away *goAway) {
	s := c.session()
	if s == nil {
		return
	}
	s.sendAck()
	c.sendFrame(away.encode(), &forceOptions)
}

// drainAtShutdown ends a healthy connection at shutdown: once no connection is read any more,
// it writes what is queued, and closes gracefully.
func (c *conn) drainAtShutdown() {
	c.sock.DisableAcks() // senders must not stay blocked by a window that opens no more
	select {
	case <-c.hub.readersDone:
	case <-c.done.Done():
		return
	}
	c.drainWithGoAway(c.hub.newShutdownGoAway(true))
}

// drainBeforeShutdown ends a healthy connection before Shutdown, as drainAtShutdown does.
// Other clients can still send, but do not find the client any more.
func (c *conn) drainBeforeShutdown(away *goAway) {
	c.unregister()
	c.sock.DisableAcks()
	c.drainWithGoAway(away)
}

// drainWithGoAway writes what is queued and then away, and closes gracefully.
func (c *conn) drainWithGoAway(away *goAway) {
	c.sendShutdownGoAway(away)
	if c.sock.Drain(c.done.Done()) {
		c.sock.CloseGracefully(rstAvoidanceDelay)
	}
}

// closeWithGoAway sends GOAWAY and closes the connection, within goAwayTimeout unless the hub
// shuts down.
func (c *conn) closeWithGoAway(away *goAway) {
	if away.code == wire.GoAwayShutdown {
		c.drainBeforeShutdown(away)
		return
	}
	c.unregister()
	c.sock.DisableAcks() // ACKs are not read any more
	timeout := time.AfterFunc(goAwayTimeout, func() { c.close(away.reason) })
	defer timeout.Stop()
	if c.sendFrame(away.encode(), &priorityOptions) && c.sock.Drain(c.done.Done()) {
		c.sock.CloseGracefully(rstAvoidanceDelay)
	}
}
