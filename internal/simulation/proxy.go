package simulation

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// proxy forwards bytes between the clients of a run and the hub and can break their
// connections. It does not interpret the bytes.
type proxy struct {
	// Static after construction.
	hubAddr  string
	listener net.Listener
	wg       sync.WaitGroup

	// Guarded by mu.
	mu     sync.Mutex
	conns  map[string]*proxyConn // by the address of the client's end
	breaks int
	closed bool
}

// proxyConn is one connection through the proxy.
type proxyConn struct{ client, hub net.Conn }

// newProxy listens on a free port of the loopback interface. The goroutines that newProxy
// starts end with close.
func newProxy(hubAddr string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the proxy: %w", err)
	}
	p := &proxy{hubAddr: hubAddr, listener: listener, conns: make(map[string]*proxyConn)}
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) accept() {
	for {
		nc, err := p.listener.Accept()
		if err != nil {
			return // close has closed the listener; after any other error clients fail to connect
		}
		p.wg.Go(func() { p.forward(nc) })
	}
}

// forward copies bytes in both directions until both directions have ended.
func (p *proxy) forward(nc net.Conn) {
	defer nc.Close()
	hub, err := net.Dial("tcp", p.hubAddr)
	if err != nil {
		return // the client sees a lost connection
	}
	defer hub.Close()
	pc := &proxyConn{nc, hub}
	if !p.add(pc) {
		return
	}
	defer p.remove(pc)
	var wg sync.WaitGroup
	wg.Go(func() { pc.copy(nc, hub) })
	pc.copy(hub, nc)
	wg.Wait()
}

// copy copies bytes in one direction. At the end of from it closes the write side of to; after
// an error it closes both connections.
func (pc *proxyConn) copy(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		pc.close(false)
		return
	}
	_ = to.(*net.TCPConn).CloseWrite() // fails only on a closed connection
}

// close closes both connections, with a TCP RST if reset is set.
func (pc *proxyConn) close(reset bool) {
	for _, nc := range []net.Conn{pc.client, pc.hub} {
		if reset {
			_ = nc.(*net.TCPConn).SetLinger(0) // fails only on a closed connection
		}
		nc.Close()
	}
}

func (p *proxy) add(pc *proxyConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.conns[pc.client.RemoteAddr().String()] = pc
	}
	return !p.closed
}

func (p *proxy) remove(pc *proxyConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if addr := pc.client.RemoteAddr().String(); p.conns[addr] == pc {
		delete(p.conns, addr)
	}
}

// breakConn breaks the connection whose client end has the address addr. It returns false if
// there is none.
func (p *proxy) breakConn(addr string, reset bool) bool {
	p.mu.Lock()
	pc := p.conns[addr]
	delete(p.conns, addr)
	if pc != nil {
		p.breaks++
	}
	p.mu.Unlock()
	if pc == nil {
		return false
	}
	pc.close(reset)
	return true
}

// breakCount returns how many connections were broken.
func (p *proxy) breakCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.breaks
}

// close closes the listener and all connections and waits for the goroutines of p.
func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	conns := make([]*proxyConn, 0, len(p.conns))
	for _, pc := range p.conns {
		conns = append(conns, pc)
	}
	p.mu.Unlock()
	for _, pc := range conns {
		pc.close(false)
	}
	p.wg.Wait()
}

// proxyDialer dials the proxy for one client and remembers the address of the current
// connection.
type proxyDialer struct {
	proxy *proxy

	mu        sync.Mutex
	localAddr string // of the client's end of the current connection
}

// dial opens a connection to the proxy.
func (pd *proxyDialer) dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", pd.proxy.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	pd.mu.Lock()
	pd.localAddr = nc.LocalAddr().String()
	pd.mu.Unlock()
	return nc, nil
}

func (pd *proxyDialer) breakConn(reset bool) bool {
	pd.mu.Lock()
	addr := pd.localAddr
	pd.mu.Unlock()
	return pd.proxy.breakConn(addr, reset)
}
