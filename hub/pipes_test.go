package hub_test

import (
	"net"
	"sync"
	"testing"
)

// pipes is a listener whose connections are in memory: they work in virtual time,
// and go the way of those that are no TCP connections.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

// Accept returns the hub's end of the next connection.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case nc := <-p.conns:
		return nc, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (p *pipes) Close() error {
	p.close()
	return nil
}

// Addr returns an address that says nothing.
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial connects. The hub has accepted when it returns.
func (p *pipes) dial(t testing.TB) net.Conn {
	t.Helper()
	nc, ok := p.offer()
	if !ok {
		t.Fatal("dial: listener closed")
	}
	return nc
}

// offer is dial for one who may come too late.
func (p *pipes) offer() (net.Conn, bool) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, true
	case <-p.closed:
		return nil, false
	}
}
