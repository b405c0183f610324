package hub

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// tunnelTimeout is how long the hub of a session has to answer a client that resumes the session
// through another hub: a takeover, and the time of a slow authentication.
const tunnelTimeout = takeoverTimeout + 3*time.Second

// errTunnelEnded ends the connection of a client whose session another hub has: the other end of
// its tunnel is closed.
var errTunnelEnded = errors.New("the tunnel to the hub of the session has ended")

// tunneled is the error with which a connection stops handling frames: from now on, a tunnel
// carries them to the hub of the session.
type tunneled struct{ tunnel *clientTunnel }

func (*tunneled) Error() string { return "another hub has the session" }

// tryTunnel has another hub resume the session that HELLO names, if that hub has it. It returns a
// *tunneled then, and nil if the client is to get a session of this hub. payload is that of HELLO.
func (h *helloHandler) tryTunnel(payload []byte) error {
	c := h.conn
	m := c.hub.member.Load()
	if m == nil || h.hello.Resume == "" || c.is(flagTunnel) {
		return nil
	}
	dest, node, found := m.hubOf(c.hub, h.hello.ID)
	if !found {
		return nil
	}
	request, ok := h.tunnelRequest()
	if !ok {
		return nil
	}
	if c.provisional {
		return c.hub.admission.rejectProvisional(c, true)
	}
	t := newClientTunnel(c)
	if !t.open(m.hubs, dest, node, request) {
		return nil
	}
	_ = t.send(wire.TypeHello, payload) // await sees an error as well
	err := t.await(h.hello.ID, node)
	h.refused = err == nil
	return err
}

// hubOf returns the other hub whose client has that id: its destination if the client is known, or
// the node that the id names. found is false if it is no client of another hub.
func (m *member) hubOf(h *Hub, id uint64) (dest *relay.Remote, node cluster.Node, found bool) {
	node, assigned := cluster.NodeOf(id)
	switch d := h.find(id).(type) {
	case *relay.Remote:
		return d, node, true
	case nil:
		return nil, node, assigned && node != m.Node()
	}
	return nil, 0, false
}

// tunnelRequest describes the client to the hub of its session. It returns false if that hub cannot
// authenticate the client: its certificate is known here only.
func (h *helloHandler) tunnelRequest() (r *cluster.TunnelRequest, ok bool) {
	c := h.conn
	addr := c.sock.RemoteAddr()
	r = &cluster.TunnelRequest{ID: h.hello.ID, Resume: h.hello.Resume, Network: addr.Network(), Address: addr.String()}
	r.Origin, r.Cookie = c.hub.upgrades.find(c)
	if state, ok := c.sock.TLSState(); ok {
		if len(state.PeerCertificates) > 0 {
			return nil, false
		}
		r.TLS = &cluster.TunnelTLS{
			Version: state.Version, Suite: state.CipherSuite, ServerName: state.ServerName, Protocol: state.NegotiatedProtocol,
		}
	}
	return r, true
}

// await waits for the answer of the other hub. It returns a *tunneled when that hub serves the
// client, and nil if it has no such session.
func (t *clientTunnel) await(id uint64, node cluster.Node) error {
	c := t.conn
	timeout := time.NewTimer(tunnelTimeout)
	defer timeout.Stop()
	err := errConnClosed
	select {
	case err = <-t.answered:
	case <-timeout.C:
		err = cluster.ErrTunnelBroken
	case <-c.hub.closing:
		err = socket.ErrInterrupted
	case <-c.done.Done():
	}
	var refused *cluster.TunnelEndError
	switch {
	case err == nil:
		return t.begin(id, node)
	case errors.As(err, &refused):
		return nil
	}
	t.tunnel.Close(0)
	if errors.Is(err, cluster.ErrTunnelBroken) {
		return &goAway{code: wire.GoAwayBusy, reason: CloseLost, reconnect: true, err: err}
	}
	return err
}

// begin makes the connection one whose frames the tunnel carries.
func (t *clientTunnel) begin(id uint64, node cluster.Node) error {
	c := t.conn
	if err := c.deadline.stopFirstFrame(); err != nil {
		t.tunnel.Close(0)
		return err
	}
	c.sock.SetMaxLength(c.hub.auth.maxLength(c.hub.config.MaxBody))
	c.sock.SetReadLimit(0)
	c.flags.Or(flagTunneled)
	c.hub.config.Logger.Info("tunnel opened", "client", id, "address", c.sock.RemoteAddr().String(), "node", uint32(node))
	t.id, t.since = id, time.Now()
	return &tunneled{t}
}

// forwardLoop passes the frames of the client on until the connection ends, and then tears it down.
// As in readLoop, the connection continues in a new goroutine when it may become idle.
func (t *clientTunnel) forwardLoop() {
	err := t.forward()
	if err == errNewGoroutine {
		go t.forwardLoop() // ends with the connection
		return
	}
	if errors.Is(err, socket.ErrInterrupted) && !isClosed(t.conn.hub.closing) {
		err = errTunnelEnded // or the client is told to leave
	}
	t.tunnel.Close(0)
	t.conn.hub.config.Logger.Info("tunnel closed", "client", t.id, "open_for", time.Since(t.since).Round(time.Millisecond), "cause", err)
	t.conn.finishReading(err)
	t.close()
}

// forward is forwardLoop without the end.
func (t *clientTunnel) forward() error {
	c := t.conn
	bytesReported := c.sock.BytesRead()
	defer func() { c.countBytesRead(bytesReported) }()
	for {
		if err := t.forwardFrames(); err != nil {
			return err
		}
		bytesReported = c.countBytesRead(bytesReported)
		if t.forwards && !c.keepsGoroutine() {
			t.forwards = false
			return errNewGoroutine
		}
		err := c.sock.Fill()
		if err == socket.ErrIdle {
			c.busy = false
			return errNewGoroutine
		}
		if err != nil {
			return err
		}
		t.forwards = true
	}
}

// forwardFrames passes the frames of one read on.
func (t *clientTunnel) forwardFrames() error {
	c := t.conn
	frames := uint64(0)
	defer func() {
		c.hub.counters.messagesIn.Add(frames)
		c.messagesIn.Add(frames)
	}()
	var f socket.Frame
	for {
		ok, err := c.sock.Next(&f)
		if err != nil || !ok {
			return err
		}
		frames++
		if f.Type == 0 && len(f.Payload) == 0 {
			continue // an empty frame, which no hub needs
		}
		if err := t.send(f.Type, f.Payload); err != nil {
			return err
		}
	}
}

// send passes a frame on. It waits while the other hub does not permit it.
func (t *clientTunnel) send(kind wire.Type, payload []byte) error {
	c := t.conn
	binary.BigEndian.PutUint32(t.header[:], uint32(1+len(payload)))
	t.header[wire.LengthSize] = byte(kind)
	t.vector = [...][]byte{t.header[:], payload}
	for rest := t.vector[:]; ; {
		n, err := t.tunnel.Write(rest)
		if err != nil {
			return errTunnelEnded
		}
		if rest = cutBytes(rest, n); len(rest) == 0 {
			return nil
		}
		if n > 0 {
			continue
		}
		select {
		case <-t.tunnel.Writable():
		case <-c.done.Done():
			return errConnClosed
		case <-c.hub.closing:
			return socket.ErrInterrupted
		}
	}
}

// cutBytes returns v without its first n bytes, and without empty slices at its start.
func cutBytes(v [][]byte, n int) [][]byte {
	for len(v) > 0 && n >= len(v[0]) {
		n -= len(v[0])
		v = v[1:]
	}
	if n > 0 {
		v[0] = v[0][n:]
	}
	return v
}
