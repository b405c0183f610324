package socket

import "net"

// NewWebSocket marks nc as a connection whose bytes are WebSocket frames (RFC 6455), in both
// directions, from the next byte on: its upgrade is done, and this side is the server. New then
// reads the payload of the client's messages as one stream, and writes messages that hold whole
// frames. nc can be any connection for New, such as TCP, TLS over WrapForTLS, or a PollableConn.
// Only New can read and write what NewWebSocket returns as WebSocket messages: its own Read and
// Write are those of nc.
func NewWebSocket(nc net.Conn) net.Conn { return &webSocketConn{nc} }

// webSocketConn is a connection whose bytes are WebSocket frames.
type webSocketConn struct {
	net.Conn
}

// NetConn returns the connection that carries the frames.
func (m *webSocketConn) NetConn() net.Conn { return m.Conn }
