package socket

import (
	"crypto/tls"
	"net"
)

// WithRemoteAddr returns nc with a different remote address: the address of a client behind a
// load balancer, which the load balancer sends before the first byte of the stream. The returned
// connection replaces nc. Over TCP, and over TLS, it is as fast as nc.
func WithRemoteAddr(nc net.Conn, addr net.Addr) net.Conn {
	switch nc := nc.(type) {
	case *net.TCPConn:
		return &tcpAddrConn{nc, addr}
	case *tls.Conn:
		if below, ok := nc.NetConn().(interface{ setRemoteAddr(net.Addr) }); ok {
			below.setRemoteAddr(addr)
			return nc
		}
		return &tlsAddrConn{nc, addr}
	}
	return &addrConn{nc, addr}
}

// tlsAddrConn is a TLS connection with a different remote address.
type tlsAddrConn struct {
	*tls.Conn
	addr net.Addr
}

// RemoteAddr implements net.Conn.
func (a *tlsAddrConn) RemoteAddr() net.Addr { return a.addr }

// tcpAddrConn is a TCP connection with a different remote address.
type tcpAddrConn struct {
	*net.TCPConn
	addr net.Addr
}

// RemoteAddr implements net.Conn.
func (a *tcpAddrConn) RemoteAddr() net.Addr { return a.addr }

func (a *tcpAddrConn) tcpConn() *net.TCPConn { return a.TCPConn }

// addrConn is any other connection with a different remote address.
type addrConn struct {
	net.Conn
	addr net.Addr
}

// RemoteAddr implements net.Conn.
func (a *addrConn) RemoteAddr() net.Addr { return a.addr }
