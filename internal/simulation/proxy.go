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
	hub      string // its address
	listener net.Listener
	work     sync.WaitGroup

	mu      sync.Mutex
	bridges map[string]*bridge // by the address of the client's end
	breaks  int
	closed  bool
}

// bridge is one connection on its way through the proxy.
type bridge struct{ client, hub net.Conn }

// newProxy listens on a free port of the loopback interface. What it starts ends with
// close.
func newProxy(hub string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the proxy: %w", err)
	}
	p := &proxy{hub: hub, listener: listener, bridges: make(map[string]*bridge)}
	p.work.Go(p.accept)
	return p, nil
}

func (p *proxy) accept() {
	for {
		nc, err := p.listener.Accept()
		if err != nil {
			return // close has closed the listener; anything else shows as clients without a way
		}
		p.work.Go(func() { p.carry(nc) })
	}
}

// carry carries bytes both ways until either end ends.
func (p *proxy) carry(nc net.Conn) {
	defer nc.Close()
	hub, err := net.Dial("tcp", p.hub)
	if err != nil {
		return // which the client sees as a lost connection
	}
	defer hub.Close()
	b := &bridge{nc, hub}
	if !p.add(b) {
		return
	}
	defer p.remove(b)
	var back sync.WaitGroup
	back.Go(func() { b.copy(nc, hub) })
	b.copy(hub, nc)
	back.Wait()
}

// copy carries bytes one way, and then the end of that way.
func (b *bridge) copy(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		b.cut(false)
		return
	}
	_ = to.(*net.TCPConn).CloseWrite() // fails only on a connection that is gone
}

// cut breaks both sides.
func (b *bridge) cut(reset bool) {
	for _, nc := range []net.Conn{b.client, b.hub} {
		if reset {
			_ = nc.(*net.TCPConn).SetLinger(0) // as above
		}
		nc.Close()
	}
}

func (p *proxy) add(b *bridge) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.bridges[b.client.RemoteAddr().String()] = b
	}
	return !p.closed
}

func (p *proxy) remove(b *bridge) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if addr := b.client.RemoteAddr().String(); p.bridges[addr] == b {
		delete(p.bridges, addr)
	}
}

// cut breaks the connection of the client whose end has this address. It returns false
// when there is none.
func (p *proxy) cut(addr string, reset bool) bool {
	p.mu.Lock()
	b := p.bridges[addr]
	delete(p.bridges, addr)
	if b != nil {
		p.breaks++
	}
	p.mu.Unlock()
	if b == nil {
		return false
	}
	b.cut(reset)
	return true
}

// broken returns how many connections were broken.
func (p *proxy) broken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.breaks
}

// close breaks what is left and waits for its goroutines.
func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	left := make([]*bridge, 0, len(p.bridges))
	for _, b := range p.bridges {
		left = append(left, b)
	}
	p.mu.Unlock()
	for _, b := range left {
		b.cut(false)
	}
	p.work.Wait()
}

// line is the way of one client through the proxy.
type line struct {
	proxy *proxy

	mu   sync.Mutex
	addr string // of the client's end, now
}

// dial makes a connection through the proxy.
func (l *line) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", l.proxy.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.addr = nc.LocalAddr().String()
	l.mu.Unlock()
	return nc, nil
}

func (l *line) cut(reset bool) bool {
	l.mu.Lock()
	addr := l.addr
	l.mu.Unlock()
	return l.proxy.cut(addr, reset)
}

// cutEvery is how often one who is to break a connection looks whether it is time.
const cutEvery = 5 * time.Millisecond

// startCutters has each connection broken as often as it is to be, at random moments of
// what its client sends. They end when work does.
func (r *run) startCutters(work context.Context, abort context.CancelCauseFunc) *sync.WaitGroup {
	var cutting sync.WaitGroup
	for i := range r.clients {
		if r.proxy == nil {
			break
		}
		cutting.Go(func() {
			if err := r.breakOften(work, i); err != nil {
				abort(err)
				return
			}
			r.oneDone()
		})
	}
	return &cutting
}

// breakOften breaks the connection of one client, each time when it is connected.
func (r *run) breakOften(work context.Context, i int) error {
	tick := time.NewTicker(cutEvery)
	defer tick.Stop()
	for n := range r.config.Reconnect {
		// Within the n-th part of its messages.
		due := (float64(n) + rand.Float64()) / float64(r.config.Reconnect) * float64(r.plan.messages())
		for {
			if float64(r.senders[i].accepted.Load()) >= due {
				if _, err := r.clients[i].Ping(work); err != nil {
					return err
				}
				if r.lines[i].cut(rand.IntN(2) == 0) {
					break
				}
			}
			select {
			case <-tick.C:
			case <-work.Done():
				return errors.New("it was over before")
			}
		}
	}
	_, err := r.clients[i].Ping(work) // it is back
	return err
}
