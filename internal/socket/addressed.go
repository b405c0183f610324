package socket

import "net"

// From returns nc as a connection whose peer has the given address: that of a client behind a load balancer, which has
// said so before the first byte of the stream. Over TCP it is as fast as nc.
func From(nc net.Conn, addr net.Addr) net.Conn {
	if tcp, ok := nc.(*net.TCPConn); ok {
		return &addressed{tcp, addr}
	}
	return &addressedOther{nc, addr}
}

// addressed is a TCP connection of which somebody else knows the address of the peer.
type addressed struct {
	*net.TCPConn
	addr net.Addr
}

// RemoteAddr implements net.Conn.
func (a *addressed) RemoteAddr() net.Addr { return a.addr }

// addressedOther is the same of another connection.
type addressedOther struct {
	net.Conn
	addr net.Addr
}

// RemoteAddr implements net.Conn.
func (a *addressedOther) RemoteAddr() net.Addr { return a.addr }

// TCP returns the TCP connection that nc is, and false if it is none, or speaks TLS over one.
func TCP(nc net.Conn) (*net.TCPConn, bool) {
	switch nc := nc.(type) {
	case *net.TCPConn:
		return nc, true
	case *addressed:
		return nc.TCPConn, true
	}
	return nil, false
}
