package socket

import "net"

// WithRemoteAddr returns nc as a connection whose peer has the given address: that of a client behind a load balancer, which has
// said so before the first byte of the stream. Over TCP it is as fast as nc.
func WithRemoteAddr(nc net.Conn, addr net.Addr) net.Conn {
	if tcp, ok := nc.(*net.TCPConn); ok {
		return &tcpAddrConn{tcp, addr}
	}
	return &addrConn{nc, addr}
}

// tcpAddrConn is a TCP connection of which somebody else knows the address of the peer.
type tcpAddrConn struct {
	*net.TCPConn
	addr net.Addr
}

// RemoteAddr implements net.Conn.
func (a *tcpAddrConn) RemoteAddr() net.Addr { return a.addr }

// addrConn is the same of another connection.
type addrConn struct {
	net.Conn
	addr net.Addr
}

// RemoteAddr implements net.Conn.
func (a *addrConn) RemoteAddr() net.Addr { return a.addr }

// TCP returns the TCP connection that nc is, and false if it is none, or speaks TLS over one.
func TCP(nc net.Conn) (*net.TCPConn, bool) {
	switch nc := nc.(type) {
	case *net.TCPConn:
		return nc, true
	case *tcpAddrConn:
		return nc.TCPConn, true
	}
	return nil, false
}
