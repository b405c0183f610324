package hub_test

import (
	"net"
	"sync"
	"testing"
)

// pipeListener is a listener whose connections are in memory: they work in virtual time,
// and go the way of those that are no TCP connections.
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

// Close ends Accept.
func (l *pipeListener) Close() error {
	l.close()
	return nil
}

// Addr returns an address that says nothing.
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// dial connects. The hub has accepted when it returns.
func (l *pipeListener) dial(t testing.TB) net.Conn {
	t.Helper()
	nc, ok := l.tryDial()
	if !ok {
		t.Fatal("dial: listener closed")
	}
	return nc
}

// tryDial is dial for one who may come too late.
func (l *pipeListener) tryDial() (net.Conn, bool) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, true
	case <-l.closed:
		return nil, false
	}
}
