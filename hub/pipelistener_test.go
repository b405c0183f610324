package hub_test

import (
	"net"
	"sync"
	"testing"
)

// pipeListener is a listener whose connections are pipes in memory. They work in virtual time,
// and the hub handles them as connections that are not TCP.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipeListener() *pipeListener {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Accept returns the hub's end of the next connection.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close makes Accept return net.ErrClosed.
func (l *pipeListener) Close() error {
	l.close()
	return nil
}

// Addr returns an empty address.
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// dial connects. When dial returns, Accept has returned the other end.
func (l *pipeListener) dial(t testing.TB) net.Conn {
	t.Helper()
	nc, ok := l.tryDial()
	if !ok {
		t.Fatal("dial: listener closed")
	}
	return nc
}

// tryDial is dial for a caller that can come after Close. It then returns false.
func (l *pipeListener) tryDial() (net.Conn, bool) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, true
	case <-l.closed:
		return nil, false
	}
}
