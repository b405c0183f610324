package hub

import (
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/socket"
)

// errNoSession ends a tunnel whose client cannot resume the session: the other hub then gives it a
// new one.
var errNoSession = errors.New("no session to resume")

// tunnelConn is a tunnel from another hub, as the connection of a client. It closes the connection
// at the other hub with the status of this one.
type tunnelConn struct {
	*cluster.TunnelConn
	status atomic.Uint32 // 0: not set
}

// SetCloseStatus sets the status of the close frame, if the client has a WebSocket. Only the first
// call counts.
func (c *tunnelConn) SetCloseStatus(status socket.CloseStatus) {
	c.status.CompareAndSwap(0, uint32(status))
}

// Close implements net.Conn.
func (c *tunnelConn) Close() error { return c.CloseWithStatus(uint16(c.status.Load())) }

// tlsTunnelConn is a tunnelConn of a client that uses TLS.
type tlsTunnelConn struct {
	tunnelConn
	tls cluster.TunnelTLS
}

// ConnectionState describes the TLS connection of the client. There are no certificates: a client
// with one is not served by a tunnel.
func (c *tlsTunnelConn) ConnectionState() tls.ConnectionState {
	return tls.ConnectionState{
		HandshakeComplete: true, Version: c.tls.Version, CipherSuite: c.tls.Suite,
		ServerName: c.tls.ServerName, NegotiatedProtocol: c.tls.Protocol,
	}
}

// acceptTunnel serves a client of another hub that wants to resume a session of this one, as if its
// connection had been accepted here. It does not block.
func (h *Hub) acceptTunnel(tc *cluster.TunnelConn, r *cluster.TunnelRequest) {
	if v2 := h.resumable(r.ID, r.Resume); v2 == nil {
		tc.Close()
		return
	}
	var nc net.Conn = &tunnelConn{TunnelConn: tc}
	if r.TLS != nil {
		nc = &tlsTunnelConn{tunnelConn{TunnelConn: tc}, *r.TLS}
	}
	c, err := h.admission.accept(nc, flagTunnel)
	var rejected rejectedError
	switch {
	case err == nil:
		h.upgrades.add(c, r.Origin, r.Cookie)
		c.start(nil)
	case errors.As(err, &rejected):
		h.admission.recordReject(rejected.reason, tc.RemoteAddr())
		// The tunnel has room for its first bytes.
		_, _ = tc.WriteVector([][]byte{rejectFrames[rejected.reason]}, false)
		tc.CloseWithStatus(uint16(socket.StatusTryAgainLater))
	default:
		tc.Close()
	}
}

// resumable returns the connection with the session that has that id and secret, or nil.
func (h *Hub) resumable(id uint64, secret string) *connV2 {
	c := h.lookup(id)
	if c == nil {
		return nil
	}
	if v2 := c.v2.Load(); v2 != nil && v2.session.matchesSecret(secret) {
		return v2
	}
	return nil
}
