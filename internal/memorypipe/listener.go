package memorypipe

import (
	"net"
	"sync"
	"sync/atomic"
)

// firstPort is the port of the first client of a Listener, where the operating system begins to
// number the ports of its clients.
const firstPort = 32768

// Listener is a net.Listener whose connections are pipes. Each end has the address that it would
// have over TCP: the clients have different ports of 127.0.0.1.
type Listener struct {
	conns   chan net.Conn
	closed  chan struct{}
	close   func()
	clients atomic.Int32
}

// NewListener returns a Listener.
func NewListener() *Listener {
	l := &Listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Accept returns the server's end of the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close makes Accept and Dial return net.ErrClosed.
func (l *Listener) Close() error {
	l.close()
	return nil
}

// Addr returns the address of the server's ends.
func (l *Listener) Addr() net.Addr { return loopback(1) }

// Dial returns the client's end of a new connection, when Accept has returned the other end.
func (l *Listener) Dial() (net.Conn, error) {
	server, client := newPair(l.Addr(), loopback(firstPort+int(l.clients.Add(1))))
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func loopback(port int) net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port} }
