package hub

import (
	"errors"
	"net"
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
	ids := presence.After(h.registry.IDs(), after)
	infos := make([]ClientInfo, 0, max(0, min(limit, len(ids))))
	var found [64]relay.Destination
	for len(ids) > 0 && len(infos) < limit {
		n := min(len(found), len(ids), limit-len(infos))
		h.registry.Find(ids[:n], found[:])
		for i, dest := range found[:n] {
			if info, ok := infoOf(dest, ids[i]); ok { // still registered
				infos = append(infos, info)
			}
		}
		ids = ids[n:]
	}
	return infos
}

// Client returns the description of one client, and false if the client is not connected. It
// can be called at any time.
func (h *Hub) Client(id uint64) (ClientInfo, bool) {
	return infoOf(h.find(id), id)
}

// infoOf returns the description of a destination with that id, and false if there is none.
func infoOf(dest relay.Destination, id uint64) (ClientInfo, bool) {
	switch d := dest.(type) {
	case destination:
		return d.conn.info(id), true
	case *subscriber:
		return d.info(), true
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

// requestClose asks c to close, and to send away to its client if the client uses version 2.
// The first request counts, but a request after which the session cannot be resumed replaces
// one after which it can. requestClose can be called concurrently.
func (c *conn) requestClose(away *goAway) {
	v2 := c.v2.Load()
	if v2 == nil || v2.attachment.load().hasLeft() {
		c.close(away.reason)
		return
	}
	for {
		prev := v2.goAway.Load()
		if prev != nil && !prev.resumable {
			return
		}
		if v2.goAway.CompareAndSwap(prev, away) {
			break
		}
	}
	c.unregister()
	if away.code == wire.GoAwayShutdown { // a shutdown has no timeout of its own; Shutdown ends it
		c.sock.Interrupt()
		return
	}
	c.interruptWaits()
	c.sock.Interrupt()
	// The goroutine that reads can wait for memory or be about to wait for a resume. It then does
	// not see the interrupt. The timer has no effect on a closed connection.
	time.AfterFunc(goAwayTimeout, func() { c.close(away.reason) })
}

// lookup returns the conn of a client, or nil.
func (h *Hub) lookup(id uint64) *conn { return connOf(h.find(id)) }

// find returns what has an id, or nil.
func (h *Hub) find(id uint64) relay.Destination {
	var found [1]relay.Destination
	h.registry.Find([]uint64{id}, found[:])
	return found[0]
}

// info returns the description of c, which is registered under id.
func (c *conn) info(id uint64) ClientInfo {
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
