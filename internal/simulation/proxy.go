package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// proxy stands between the clients of a run and the hub, so that their connections can
// be broken. It knows bytes only.
type proxy struct {
	hubAddr  string // its address
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[string]*proxyConn // by the address of the client's end
	breaks int
	closed bool
}

// proxyConn is one connection on its way through the proxy.
type proxyConn struct{ client, hub net.Conn }

// newProxy listens on a free port of the loopback interface. What it starts ends with
// close.
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
			return // close has closed the listener; anything else shows as clients without a way
		}
		p.wg.Go(func() { p.forward(nc) })
	}
}

// forward carries bytes both ways until either end ends.
func (p *proxy) forward(nc net.Conn) {
	defer nc.Close()
	hub, err := net.Dial("tcp", p.hubAddr)
	if err != nil {
		return // which the client sees as a lost connection
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

// copy carries bytes one way, and then the end of that way.
func (pc *proxyConn) copy(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		pc.close(false)
		return
	}
	_ = to.(*net.TCPConn).CloseWrite() // fails only on a connection that is gone
}

// close breaks both sides.
func (pc *proxyConn) close(reset bool) {
	for _, nc := range []net.Conn{pc.client, pc.hub} {
		if reset {
			_ = nc.(*net.TCPConn).SetLinger(0) // as above
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

// breakConn breaks the connection of the client whose end has this address. It returns false
// when there is none.
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

// close breaks what is left and waits for its goroutines.
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

// proxyDialer is the way of one client through the proxy.
type proxyDialer struct {
	proxy *proxy

	mu        sync.Mutex
	localAddr string // of the client's end, now
}

// dial makes a connection through the proxy.
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

// breakPollInterval is how often one who is to break a connection looks whether it is time.
const breakPollInterval = 5 * time.Millisecond

// startBreakers has each connection broken as often as it is to be, at random moments of
// what its client sends. They end when work does.
func (r *run) startBreakers(ctx context.Context, abort context.CancelCauseFunc) *sync.WaitGroup {
	var wg sync.WaitGroup
	for i := range r.clients {
		if r.proxy == nil {
			break
		}
		wg.Go(func() {
			if err := r.breakConns(ctx, i); err != nil {
				abort(err)
				return
			}
			r.partDone()
		})
	}
	return &wg
}

// breakConns breaks the connection of one client, each time when it is connected.
func (r *run) breakConns(ctx context.Context, i int) error {
	ticker := time.NewTicker(breakPollInterval)
	defer ticker.Stop()
	for n := range r.config.Reconnects {
		// Within the n-th part of its messages.
		due := (float64(n) + rand.Float64()) / float64(r.config.Reconnects) * float64(r.plan.messagesPerSender())
		for {
			if float64(r.senders[i].accepted.Load()) >= due {
				if _, err := r.clients[i].Ping(ctx); err != nil {
					return err
				}
				if r.proxyDialers[i].breakConn(rand.IntN(2) == 0) {
					break
				}
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return errors.New("it was over before")
			}
		}
	}
	_, err := r.clients[i].Ping(ctx) // it is back
	return err
}
