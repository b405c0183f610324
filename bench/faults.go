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

// faults is a way to the hub on which links break.
type faults struct {
	hub      string
	listener net.Listener
	broken   atomic.Int64
	work     sync.WaitGroup

	mu    sync.Mutex
	links map[*link]bool
}

// link is one connection on its way.
type link struct {
	client, hub *net.TCPConn
	jam         sync.RWMutex // whoever holds it stops the bytes both ways
	gone        chan struct{}
	end         func()
}

func newFaults(hub string) (*faults, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &faults{hub: hub, listener: listener, links: make(map[*link]bool)}
	f.work.Go(f.accept) // ends with the listener
	return f, nil
}

func (f *faults) addr() string { return f.listener.Addr().String() }

func (f *faults) accept() {
	for {
		nc, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.work.Go(func() { f.carry(nc.(*net.TCPConn)) })
	}
}

// carry carries bytes both ways until either end ends.
func (f *faults) carry(client *net.TCPConn) {
	defer client.Close()
	nc, err := net.Dial("tcp", f.hub)
	if err != nil {
		return // the client tries again
	}
	defer nc.Close()
	l := &link{client: client, hub: nc.(*net.TCPConn), gone: make(chan struct{})}
	l.end = sync.OnceFunc(func() { close(l.gone); l.client.Close(); l.hub.Close() })
	f.mu.Lock()
	f.links[l] = true
	f.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() { l.copy(l.client, l.hub) })
	l.copy(l.hub, l.client)
	back.Wait()
	f.mu.Lock()
	delete(f.links, l)
	f.mu.Unlock()
}

func (l *link) copy(to, from *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		l.jam.RLock()
		if n > 0 && err == nil {
			_, err = to.Write(buffer[:n])
		}
		l.jam.RUnlock()
		if err == io.EOF {
			_ = to.CloseWrite() // fails on a connection that is gone
			return
		}
		if err != nil {
			l.end()
			return
		}
	}
}

// stop holds all bytes back for a while, or until the link is over.
func (l *link) stop(d time.Duration) {
	l.jam.Lock()
	defer l.jam.Unlock()
	select {
	case <-time.After(d):
	case <-l.gone:
	}
}

// breakLinks breaks one now and then, until ctx ends.
func (f *faults) breakLinks(ctx context.Context) {
	for every := 3 * time.Second / soakClients; ctx.Err() == nil; {
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(2 * every)))):
		case <-ctx.Done():
		}
		f.mu.Lock()
		for l := range f.links { // any
			f.broken.Add(1)
			switch rand.IntN(4) {
			case 0:
				l.end()
			case 1:
				_ = l.client.SetLinger(0) // as above
				_ = l.hub.SetLinger(0)
				l.end()
			case 2:
				f.work.Go(func() { l.stop(time.Duration(rand.Int64N(int64(time.Second)))) })
			case 3: // nothing comes any more, and no end either, until both ends have given it up
				f.work.Go(func() { l.stop(20 * time.Second); l.end() })
			}
			break
		}
		f.mu.Unlock()
	}
}

func (f *faults) close() {
	f.listener.Close()
	f.mu.Lock()
	for l := range f.links {
		l.end()
	}
	f.mu.Unlock()
	f.work.Wait()
}
