package cluster

import (
	"errors"
	"sync"

	"github.com/sechlol/go-message-hub/internal/relay"
)

// A tunnel is a pair of streams of bytes between a client, which is connected to one hub, and its
// session, which another hub has. The hub of the client opens it. The other hub serves the client
// as if it had accepted the connection itself. Tunnels travel on the link, beside the messages.
//
// Each end permits the other to send maxTunnelWindow bytes more than it has passed on, so that a
// client that does not read stops its own tunnel and nothing else: what arrives always has room,
// and the link reader never waits.

// maxTunnelWindow is the maximum number of bytes of a tunnel in one direction that were sent, and
// that the other end has not passed on. It is the size at which one read of a connection ends.
const maxTunnelWindow = 64 << 10

var (
	// ErrTunnelBroken ends a tunnel whose other hub cannot be reached any more. The session is
	// perhaps still there.
	ErrTunnelBroken = errors.New("the link to the hub of the session is broken")

	// ErrNoTunnel says that there is no hub to which a tunnel could lead.
	ErrNoTunnel = errors.New("the hub of the session cannot be reached")

	// errTunnelClosed is returned by Write after Close.
	errTunnelClosed = errors.New("tunnel closed")
)

// TunnelEndError ends a tunnel that the other end has closed.
type TunnelEndError struct {
	Status uint16 // of the close frame, if the client has a WebSocket; 0: none
}

// Error implements error.
func (e *TunnelEndError) Error() string { return "the other end of the tunnel is closed" }

// TunnelRequest says what the hub of the session must know about a client that resumes it.
type TunnelRequest struct {
	ID     uint64 `json:"id,string"` // of the session
	Resume string `json:"resume"`    // secret of the session

	Network string     `json:"network"` // of Address
	Address string     `json:"address"` // remote address of the client
	Origin  string     `json:"origin,omitempty"`
	Cookie  string     `json:"cookie,omitempty"` // token from a cookie
	TLS     *TunnelTLS `json:"tls,omitempty"`    // nil: the client uses no TLS
}

// TunnelTLS describes the TLS connection of a client without a certificate.
type TunnelTLS struct {
	Version    uint16 `json:"version"`
	Suite      uint16 `json:"suite"`
	ServerName string `json:"server_name,omitempty"`
	Protocol   string `json:"protocol,omitempty"`
}

// TunnelHandler handles what arrives by a tunnel. Its methods are called one at a time, and must
// not block: they run in the goroutines of the link.
type TunnelHandler interface {
	// HandleData gets the next bytes. It does not keep p. Tunnel.Grant must follow when the bytes
	// are passed on.
	HandleData(p []byte)

	// HandleEnd is called once, after the last bytes, unless the tunnel was closed before: with a
	// *TunnelEndError, or ErrTunnelBroken.
	HandleEnd(err error)
}

// Tunnel is one end of a tunnel. All methods can be called concurrently.
type Tunnel struct {
	// Static after construction.
	table      *tunnels
	key        tunnelKey
	generation uint64 // of the link
	handler    TunnelHandler
	writable   chan struct{} // capacity 1: Write can have room

	received uint64 // bytes that have arrived; owned by the callbacks of the link

	// mu guards the fields below.
	mu        sync.Mutex
	sent      uint64
	permitted uint64 // how many bytes this end can send in all
	granted   uint64 // how many bytes the other end can send in all
	err       error  // why nothing is sent any more; nil: the tunnel is open
}

func newTunnel(table *tunnels, key tunnelKey, generation uint64) *Tunnel {
	return &Tunnel{
		table: table, key: key, generation: generation, writable: make(chan struct{}, 1),
		permitted: maxTunnelWindow, granted: maxTunnelWindow,
	}
}

// Write sends as many bytes of v as the other end permits now, which can be none, and does not
// wait. It copies them. It returns an error once the tunnel has ended.
func (t *Tunnel) Write(v [][]byte) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return 0, t.err
	}
	size := 0
	for _, p := range v {
		size += len(p)
	}
	if size == 0 {
		return 0, nil
	}
	room := t.table.take(t, int(min(uint64(size), t.permitted-t.sent)))
	data := pieces{v: v}
	for n < room {
		part := min(room-n, maxTunnelData)
		t.table.appendData(t.key, &data, part)
		n += part
	}
	t.sent += uint64(n)
	return n, nil
}

// CanWrite reports whether Write would accept a byte, or return an error.
func (t *Tunnel) CanWrite() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err != nil || t.sent < t.permitted && t.table.hasRoom(t)
}

// Writable returns the channel that receives when Write can have room, after it had none. Only one
// goroutine can wait for it.
func (t *Tunnel) Writable() <-chan struct{} { return t.writable }

// signalWritable wakes the goroutine that waits for Writable.
func (t *Tunnel) signalWritable() { signal(t.writable) }

// Grant permits the other end to send, because the bytes up to offset passed were passed on. It is
// said to the other end once it is worth a record.
func (t *Tunnel) Grant(passed uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	upTo := passed + maxTunnelWindow
	if t.err != nil || upTo < t.granted+maxTunnelWindow/4 {
		return
	}
	t.granted = upTo
	t.table.append(appendTunnelCredit(nil, t.key, upTo))
}

// Close closes the tunnel. The other end gets what was sent before, and then status. Only the first
// call counts. HandleEnd is not called afterwards, unless it runs already.
func (t *Tunnel) Close(status uint16) {
	if t.end(errTunnelClosed) {
		t.table.remove(t.key)
		t.table.append(appendTunnelClose(nil, t.key, status))
	}
}

// end ends the tunnel with err. It reports whether it was open.
func (t *Tunnel) end(err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return false
	}
	t.err = err
	t.signalWritable()
	return true
}

// receive handles bytes of the other end.
func (t *Tunnel) receive(p []byte) error {
	t.mu.Lock()
	granted, ended := t.granted, t.err != nil
	t.mu.Unlock()
	t.received += uint64(len(p))
	if t.received > granted {
		return nonsense("%d bytes in a tunnel, %d are permitted", t.received, granted)
	}
	if !ended && len(p) > 0 {
		t.handler.HandleData(p)
	}
	return nil
}

// permit records how many bytes this end can send in all.
func (t *Tunnel) permit(upTo uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if upTo < t.permitted || upTo > t.sent+maxTunnelWindow {
		return nonsense("a tunnel may send %d bytes, after %d of which %d were permitted", upTo, t.sent, t.permitted)
	}
	t.permitted = upTo
	t.signalWritable()
	return nil
}

// finish ends the tunnel because of the other end, or the link.
func (t *Tunnel) finish(err error) {
	if t.end(err) {
		t.handler.HandleEnd(err)
	}
}

// OpenTunnel opens a tunnel to a hub whose session a client of this hub wants to resume: to the hub
// of the destination, or without one to the hub with that node. It returns ErrNoTunnel if that hub
// cannot be reached. The other end must be sent HELLO first. It closes the tunnel, without any
// bytes, if the session cannot be resumed.
func (c *Cluster) OpenTunnel(dest *relay.Remote, node Node, r *TunnelRequest, handler TunnelHandler) (*Tunnel, error) {
	p := c.peer(node)
	if dest != nil {
		p, _ = dest.Peer.(*peer)
	}
	if p == nil || !p.link.Established() {
		return nil, ErrNoTunnel
	}
	return p.tunnels.openTunnel(r, handler)
}
