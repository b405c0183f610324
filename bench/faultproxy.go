package main

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// faultProxy forwards connections to the hub and breaks them.
type faultProxy struct {
	addr       string // host:port at which it listens
	hubAddr    string
	listener   net.Listener
	breakCount atomic.Int64
	wg         sync.WaitGroup

	mu    sync.Mutex
	conns map[*proxyConn]bool
}

// proxyConn is one connection through the proxy.
type proxyConn struct {
	client, hub *net.TCPConn
	pauseMu     sync.RWMutex // write lock: pauses copying in both directions
	closed      chan struct{}
	close       func()
}

func newFaultProxy(hubAddr string) (*faultProxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &faultProxy{addr: listener.Addr().String(), hubAddr: hubAddr, listener: listener, conns: make(map[*proxyConn]bool)}
	p.wg.Go(p.accept) // ends with the listener
	return p, nil
}

func (p *faultProxy) accept() {
	for {
		nc, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.forward(nc.(*net.TCPConn)) })
	}
}

// forward copies bytes in both directions until both directions have ended.
func (p *faultProxy) forward(client *net.TCPConn) {
	defer client.Close()
	nc, err := net.Dial("tcp", p.hubAddr)
	if err != nil {
		return // the client retries
	}
	defer nc.Close()
	pc := &proxyConn{client: client, hub: nc.(*net.TCPConn), closed: make(chan struct{})}
	pc.close = sync.OnceFunc(func() { close(pc.closed); pc.client.Close(); pc.hub.Close() })
	p.mu.Lock()
	p.conns[pc] = true
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { pc.copy(pc.client, pc.hub) })
	pc.copy(pc.hub, pc.client)
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, pc)
	p.mu.Unlock()
}

func (pc *proxyConn) copy(to, from *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		pc.pauseMu.RLock()
		if n > 0 && err == nil {
			_, err = to.Write(buffer[:n])
		}
		pc.pauseMu.RUnlock()
		if err == io.EOF {
			_ = to.CloseWrite() // fails only on a closed connection
			return
		}
		if err != nil {
			pc.close()
			return
		}
	}
}

// pause stops copying for d, or until the connection is closed.
func (pc *proxyConn) pause(d time.Duration) {
	pc.pauseMu.Lock()
	defer pc.pauseMu.Unlock()
	select {
	case <-time.After(d):
	case <-pc.closed:
	}
}

// breakConns breaks a random connection every interval on average, until ctx ends.
func (p *faultProxy) breakConns(ctx context.Context, interval time.Duration) {
	for ctx.Err() == nil {
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(2 * interval)))):
		case <-ctx.Done():
		}
		p.mu.Lock()
		for pc := range p.conns { // the first of a random order
			p.breakCount.Add(1)
			switch rand.IntN(4) {
			case 0:
				pc.close()
			case 1:
				_ = pc.client.SetLinger(0) // fails only on a closed connection
				_ = pc.hub.SetLinger(0)
				pc.close()
			case 2:
				p.wg.Go(func() { pc.pause(time.Duration(rand.Int64N(int64(time.Second)))) })
			case 3: // no more bytes and no end, until both ends have timed out
				p.wg.Go(func() { pc.pause(20 * time.Second); pc.close() })
			}
			break
		}
		p.mu.Unlock()
	}
}

func (p *faultProxy) close() {
	p.listener.Close()
	p.mu.Lock()
	for pc := range p.conns {
		pc.close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}
