package admin

import (
	"net"
	"sync"
	"sync/atomic"
)

// limitListener is a listener with a maximum number of open connections. It closes further
// connections at once, which limits the file descriptors that the admin address takes from the
// hub.
type limitListener struct {
	net.Listener
	maxConns  int32
	openConns atomic.Int32
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.openConns.Add(1) <= l.maxConns {
			return &limitConn{Conn: nc, release: sync.OnceFunc(func() { l.openConns.Add(-1) })}, nil
		}
		l.openConns.Add(-1)
		nc.Close()
	}
}

// limitConn is a connection of a limitListener. Its Close makes room for another connection.
type limitConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *limitConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}
