package hub

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sechlol/go-message-hub/internal/presence"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// MaxNameLen is the maximum length of a client's name, in bytes. The hub truncates a longer
// name in a HELLO.
const MaxNameLen = 64

// ClientInfo describes one client. Its counters are those of the client's current connection,
// or of the last connection of a detached session. They restart at 0 when the client resumes
// its session.
type ClientInfo struct {
	ID       uint64
	Name     string    // name from the HELLO: printable, at most MaxNameLen bytes; empty in version 1
	Subject  string    // Permissions.Subject; empty without one
	Address  net.Addr  // remote address
	Protocol int       // protocol version of the client: 1 or 2
	Since    time.Time // when the connection was accepted
	Detached bool      // the connection is lost, and the client can still resume its session

	QueuedBytes int // bytes queued for the client, including bookkeeping overhead

	MessagesIn  uint64 // frames received, including ignored frames
	MessagesOut uint64 // frames written completely
	BytesIn     uint64 // on the wire
	BytesOut    uint64 // on the wire
}

// Clients returns at most limit clients with ids above after, in ascending order of their ids.
// A page with fewer than limit clients is the last page. A client that connects or disconnects
// between two pages can be missing, but no client appears twice. Clients can be called at any
// time. It takes one lock per client for the length of its queue.
func (h *Hub) Clients(after uint64, limit int) []ClientInfo {
	ids := presence.After(h.registry.LocalIDs(), after)
	infos := make([]ClientInfo, 0, max(0, min(limit, len(ids))))
	if limit <= 0 {
		return infos
	}
	h.eachClient(ids, func(info ClientInfo) bool {
		infos = append(infos, info)
		return len(infos) < limit
	})
	return infos
}

// ClientsAfter returns an iterator over the clients with ids above after, in ascending order of
// their ids. A client that connects during the iteration can be missing. ClientsAfter can be called
// at any time. The iterator takes one lock per client for the length of its queue, and none while
// the loop runs. A look at all clients by it allocates less than by Clients.
func (h *Hub) ClientsAfter(after uint64) iter.Seq[ClientInfo] {
	return func(yield func(ClientInfo) bool) {
		h.eachClient(presence.After(h.registry.LocalIDs(), after), yield)
	}
}

// eachClient calls yield for those of the clients with these ids that are registered, until yield
// returns false.
func (h *Hub) eachClient(ids []uint64, yield func(ClientInfo) bool) {
	var found [64]relay.Destination
	for len(ids) > 0 {
		n := min(len(found), len(ids))
		h.registry.Find(ids[:n], found[:])
		for i, dest := range found[:n] {
			if info, ok := infoOf(dest, ids[i]); ok && !yield(info) {
				return
			}
		}
		ids = ids[n:]
	}
}

// Client returns the description of one client, and false if the client is not connected. It
// can be called at any time.
func (h *Hub) Client(id uint64) (ClientInfo, bool) {
	return infoOf(h.find(id), id)
}

// ClientFates returns the fates that the reports to one client have contained so far, over all
// connections of its session: one fate per receiver of each message for which the client has
// requested a report. A fate that never occurred is absent. ClientFates returns false if the
// client is not connected. A client of version 1 and a Subscription have no fates. ClientFates can
// be called at any time.
func (h *Hub) ClientFates(id uint64) (map[wire.Fate]uint64, bool) {
	dest := h.find(id)
	if dest == nil {
		return nil, false
	}
	if s := connOf(dest).session(); s != nil {
		return s.fates(), true
	}
	return map[wire.Fate]uint64{}, true
}

// infoOf returns the description of a destination with that id, and false if there is none.
func infoOf(dest relay.Destination, id uint64) (ClientInfo, bool) {
	switch d := dest.(type) {
	case destination:
		return newClientInfo(d.conn, id), true
	case *subscriber:
		return d.clientInfo(), true
	}
	return ClientInfo{}, false
}

// Disconnect closes the connection of a client and reports whether there was such a client.
// When Disconnect returns, the client is unregistered and cannot resume its session. A v2
// client receives a GOAWAY that says whether to reconnect, and all frames queued for it if it
// reads them within a second. The connection of a v1 client is closed at once. Both are
// counted as CloseDisconnected. Disconnect can be called at any time and does not wait for the
// client.
func (h *Hub) Disconnect(id uint64, reconnect bool) bool {
	dest := h.find(id)
	if s, ok := dest.(*subscriber); ok {
		s.Stop(ErrDisconnected)
		<-s.ended
		return true
	}
	c := connOf(dest)
	if c == nil {
		return false
	}
	c.requestClose(&goAway{
		code: wire.GoAwayDisconnected, reason: CloseDisconnected, reconnect: reconnect,
		err: errors.New("disconnected by the operator"),
	})
	return true
}

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
		if c.v2.Load() != nil || c.is(flagTunneled) {
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
		if v2 := c.v2.Load(); v2 == nil || !v2.attachment.load().hasLeft() {
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

// newClientInfo returns the description of c, which is registered under id.
func newClientInfo(c *conn, id uint64) ClientInfo {
	progress := c.sock.Progress()
	info := ClientInfo{
		ID: id, Subject: c.subject(), Address: c.sock.RemoteAddr(), Protocol: 1, Since: c.acceptedAt,
		QueuedBytes: progress.Queued,
		MessagesIn:  c.messagesIn.Load(), MessagesOut: c.messagesOut.Load(),
		BytesIn: uint64(c.sock.BytesRead()), BytesOut: uint64(progress.Sent),
	}
	if v2 := c.v2.Load(); v2 != nil {
		info.Protocol, info.Name, info.Detached = wire.Version2, v2.name, v2.attachment.load().hasLeft()
	}
	return info
}

// sanitizeName returns name without unprintable characters, truncated to MaxNameLen. The
// result shares no memory with name.
func sanitizeName(name string) string {
	name = strings.ToValidUTF8(name, "")
	var b strings.Builder
	for _, r := range name {
		if !unicode.IsPrint(r) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > MaxNameLen {
			break
		}
		b.WriteRune(r)
	}
	return strings.Clone(b.String()) // clones because the Builder can have spare capacity
}
