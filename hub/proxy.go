package hub

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/proxyheader"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// NewProxyListener returns a listener for Serve over which each connection from a trusted address must begin with a header of
// the PROXY protocol, version 1 or 2: a load balancer tells by it who the client is. That is the address of the client
// from then on: in the log, for Config.MaxPerAddress and ConnectRate, in ClientInfo and for Config.Admit. Connections
// from other addresses are what they are, and headers of theirs are not believed. TLS, if any, goes over it:
// NewTLSListener(h.NewProxyListener(ln, trusted), config).
//
// A header has Config.HandshakeTimeout, and nobody waits for it but its own connection. There are as many of those as Hub.SetMaxClients
// allows. A connection without one is refused (RefusedHeader), unless it ends before its first byte, as checks of health do.
//
// The listener has goroutines from now on, for which its Close waits. Serve calls it.
func (h *Hub) NewProxyListener(ln net.Listener, trusted []netip.Prefix) net.Listener {
	l := &proxyListener{
		Listener: ln, hub: h, trusted: slices.Clone(trusted),
		accepted: make(chan accepted), closed: make(chan struct{}), pending: make(map[net.Conn]struct{}),
	}
	l.close = sync.OnceValue(l.end)
	l.work.Go(l.run) // ends with Close
	return l
}

// proxyListener is a listener of connections that say who they are.
type proxyListener struct {
	net.Listener
	hub      *Hub
	trusted  []netip.Prefix
	accepted chan accepted
	closed   chan struct{}
	close    func() error
	work     sync.WaitGroup

	mu      sync.Mutex
	begun   int64                 // connections that nobody has accepted yet
	pending map[net.Conn]struct{} // those of them whose header has not come; nil: closed
}

// accepted is what Accept returns.
type accepted struct {
	nc  net.Conn
	err error
}

// Accept implements net.Listener.
func (l *proxyListener) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepted:
		return a.nc, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It waits for all that the listener has begun.
func (l *proxyListener) Close() error { return l.close() }

// end closes the listener, and the connections that nobody has accepted.
func (l *proxyListener) end() error {
	close(l.closed)
	err := l.Listener.Close()
	l.mu.Lock()
	for nc := range l.pending {
		nc.Close()
	}
	l.pending = nil
	l.mu.Unlock()
	l.work.Wait()
	return err
}

// run takes connections until Close. A failure goes to the one who accepts, who knows how long to pause.
func (l *proxyListener) run() {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			if !l.hand(accepted{err: err}) {
				return
			}
			continue
		}
		if !l.trusts(nc.RemoteAddr()) {
			l.hand(accepted{nc: nc})
			continue
		}
		switch l.await(nc) {
		case added:
			l.work.Go(func() { l.identify(nc) }) // ends with the connection's header, in HandshakeTimeout, or with Close
		case full:
			l.hub.refuse(nc, RefusedFull)
		case closed:
			nc.Close()
		}
	}
}

// trusts reports whether a header from an address is believed.
func (l *proxyListener) trusts(from net.Addr) bool {
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(l.trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// await notes a connection whose header has yet to come.
func (l *proxyListener) await(nc net.Conn) admission {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.pending == nil:
		return closed
	case l.begun >= l.hub.most.Load():
		return full
	}
	l.begun++
	l.pending[nc] = struct{}{}
	return added
}

// identify reads the header of a connection, and hands it to the one who accepts as one of its client.
func (l *proxyListener) identify(nc net.Conn) {
	defer func() {
		l.mu.Lock()
		l.begun--
		l.mu.Unlock()
	}()
	_ = nc.SetReadDeadline(time.Now().Add(l.hub.config.HandshakeTimeout)) // fails only on a connection that is gone
	from, err := proxyheader.Read(nc)
	l.mu.Lock()
	delete(l.pending, nc)
	l.mu.Unlock()
	if err == nil {
		err = nc.SetReadDeadline(time.Time{})
	}
	switch {
	case err == nil && from.IsValid():
		l.hand(accepted{nc: socket.From(nc, net.TCPAddrFromAddrPort(from))})
	case err == nil:
		l.hand(accepted{nc: nc})
	default:
		if !errors.Is(err, io.EOF) && !isClosed(l.closed) { // nothing is wrong with a check of health
			l.hub.refuseHeader(nc.RemoteAddr(), err)
		}
		nc.Close()
	}
}

// hand hands something to the one who accepts, and reports whether somebody did. What nobody takes is closed.
func (l *proxyListener) hand(a accepted) bool {
	select {
	case l.accepted <- a:
		return true
	case <-l.closed:
		if a.nc != nil {
			a.nc.Close()
		}
		return false
	}
}

// refuseHeader counts and logs a connection that does not say who it is.
func (h *Hub) refuseHeader(from net.Addr, err error) {
	h.counters.refused[RefusedHeader].Add(1)
	h.rejections.complain(h.config.Logger, "connection refused", "reason", RefusedHeader.String(), "address", from.String(), "error", err)
}

// hintAtProxy logs that a connection has begun with a header of the PROXY protocol that nobody reads, if that is why
// it ended.
func (s *session) hintAtProxy(err error) {
	var length *wire.LengthError
	var record tls.RecordHeaderError
	var first []byte
	switch {
	case errors.As(err, &length) && !s.greeted:
		first = binary.BigEndian.AppendUint32(nil, length.Length)
	case errors.As(err, &record):
		first = record.RecordHeader[:]
	}
	if proxyheader.Begins(first) {
		s.hub.proxied.complain(s.hub.config.Logger, "connection begins with a PROXY header, which is not read", "address", s.conn.RemoteAddr().String(),
			"advice", "if that is the address of a load balancer, have the hub believe it: -proxy-protocol and -proxy-trusted, or Hub.NewProxyListener")
	}
}
