package hub

import (
	"errors"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sechlol/go-message-hub/wire"
)

// MaxNameLen is how much of the name in a client's HELLO is kept, in bytes.
const MaxNameLen = 64

// ClientInfo is what a hub knows of one client. Its counters are those of the
// connection that the client has, or had last: they begin anew when it resumes.
type ClientInfo struct {
	ID       uint64
	Name     string    // that it gave in its HELLO: printable, at most MaxNameLen bytes; empty in version 1
	Subject  string    // who it is by its Grant; empty where that names nobody
	Address  net.Addr  // of the client's side
	Protocol int       // version that it speaks: 1 or 2
	Since    time.Time // when the connection was accepted
	Detached bool      // the connection is lost, and the client may still come back

	QueuedBytes int // waits to be written to it, with what the bookkeeping costs

	MessagesIn  uint64 // frames received, ignored ones included
	MessagesOut uint64 // frames written whole
	BytesIn     uint64 // on the wire
	BytesOut    uint64 // on the wire
}

// Clients returns the clients with ids above after, in ascending order and at most
// limit of them. A page that is not full is the last one. Those who come or go
// between two pages are in them or not; nobody is in them twice. It may be called
// at any time, and costs a lock of each queue that it looks at.
func (h *Hub) Clients(after uint64, limit int) []ClientInfo {
	ids := h.roster.IDs()
	start, ok := slices.BinarySearch(ids, after)
	if ok {
		start++
	}
	ids = ids[start:]
	infos := make([]ClientInfo, 0, max(0, min(limit, len(ids))))
	var found [64]*conn
	for len(ids) > 0 && len(infos) < limit {
		n := min(len(found), len(ids), limit-len(infos))
		h.roster.Find(ids[:n], found[:])
		for i, c := range found[:n] {
			if c != nil { // it has not left since
				infos = append(infos, c.info(ids[i]))
			}
		}
		ids = ids[n:]
	}
	return infos
}

// Client returns what is known of one client, and false when it is not connected. It
// may be called at any time.
func (h *Hub) Client(id uint64) (ClientInfo, bool) {
	c := h.lookup(id)
	if c == nil {
		return ClientInfo{}, false
	}
	return c.info(id), true
}

// Disconnect ends the connection of a client, which is not listed any more when it
// returns, and cannot resume. It reports whether there was such a client. A
// client of version 2 is told by a GOAWAY, with the advice whether to reconnect, and
// gets what is queued for it if it takes that within a second; one of version 1
// sees the connection close at once. Either is counted as CloseDisconnected. It may
// be called at any time and does not wait for the client.
func (h *Hub) Disconnect(id uint64, reconnect bool) bool {
	c := h.lookup(id)
	if c == nil {
		return false
	}
	c.requestClose(&goAway{
		code: wire.GoAwayDisconnected, reason: CloseDisconnected, reconnect: reconnect,
		err: errors.New("disconnected by the operator of the hub"),
	})
	return true
}

// requestClose ends the session and tells its client why if it can understand that. It may be called
// from anywhere; the first word counts, except that one for good counts more than one after which
// the client may come back to its session.
func (c *conn) requestClose(away *goAway) {
	v2 := c.v2.Load()
	if v2 == nil || v2.detached.IsSet() {
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
	if away.code == wire.GoAwayShutdown { // it has time, and Shutdown ends that
		c.sock.Interrupt()
		return
	}
	c.interruptWaits()
	c.sock.Interrupt()
	// Whoever reads may wait for memory, or be about to wait for the client's return:
	// then it does not hear of this. Once the session is over, the timer does nothing.
	time.AfterFunc(goAwayTimeout, func() { c.close(away.reason) })
}

// lookup returns the session of a client, or nil.
func (h *Hub) lookup(id uint64) *conn {
	var found [1]*conn
	h.roster.Find([]uint64{id}, found[:])
	return found[0]
}

// info returns what is known of the session, which is listed under that id.
func (c *conn) info(id uint64) ClientInfo {
	progress := c.sock.Progress()
	info := ClientInfo{
		ID: id, Subject: c.subject(), Address: c.sock.RemoteAddr(), Protocol: 1, Since: c.acceptedAt,
		QueuedBytes: progress.Queued,
		MessagesIn:  c.messagesIn.Load(), MessagesOut: c.messagesOut.Load(),
		BytesIn: uint64(c.sock.BytesRead()), BytesOut: uint64(progress.Sent),
	}
	if v2 := c.v2.Load(); v2 != nil {
		info.Protocol, info.Name, info.Detached = wire.Version2, v2.name, v2.detached.IsSet()
	}
	return info
}

// sanitizeName returns a name as it can be shown to people: without what is not
// printable, and cut to MaxNameLen. It shares no memory with the HELLO.
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
	return strings.Clone(b.String()) // which is as long as it needs to be
}
