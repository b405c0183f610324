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
// from then on: in the log, for Config.MaxPerAddress and ConnectRate, in ClientInfo and for Config.Authenticate. Connections
// from other addresses are what they are, and headers of theirs are not believed. TLS, if any, goes over it:
// NewTLSListener(h.NewProxyListener(ln, trusted), config).
//
// A header has Config.HandshakeTimeout, and nobody waits for it but its own connection. There are as many of those as Hub.SetMaxClients
// allows. A connection without one is refused (RejectHeader), unless it ends before its first byte, as checks of health do.
//
// The listener has goroutines from now on, for which its Close waits. Serve calls it.
func (h *Hub) NewProxyListener(ln net.Listener, trusted []netip.Prefix) net.Listener {
	l := &proxyListener{
		Listener: ln, hub: h, trusted: slices.Clone(trusted),
		results: make(chan acceptResult), closed: make(chan struct{}), pending: make(map[net.Conn]struct{}),
	}
	l.close = sync.OnceValue(l.shutdown)
	l.wg.Go(l.acceptLoop) // ends with Close
	return l
}

// proxyListener is a listener of connections that say who they are.
type proxyListener struct {
	net.Listener
	hub     *Hub
	trusted []netip.Prefix
	results chan acceptResult
	closed  chan struct{}
	close   func() error
	wg      sync.WaitGroup

	mu         sync.Mutex
	unaccepted int64                 // connections that nobody has accepted yet
	pending    map[net.Conn]struct{} // those of them whose header has not come; nil: closed
}

// acceptResult is what Accept returns.
type acceptResult struct {
	nc  net.Conn
	err error
}

// Accept implements net.Listener.
func (l *proxyListener) Accept() (net.Conn, error) {
	select {
	case a := <-l.results:
		return a.nc, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It waits for all that the listener has begun.
func (l *proxyListener) Close() error { return l.close() }

// shutdown closes the listener, and the connections that nobody has accepted.
func (l *proxyListener) shutdown() error {
	close(l.closed)
	err := l.Listener.Close()
	l.mu.Lock()
	for nc := range l.pending {
		nc.Close()
	}
	l.pending = nil
	l.mu.Unlock()
	l.wg.Wait()
	return err
}

// acceptLoop takes connections until Close. A failure goes to the one who accepts, who knows how long to pause.
func (l *proxyListener) acceptLoop() {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			if !l.sendResult(acceptResult{err: err}) {
				return
			}
			continue
		}
		if !l.trusts(nc.RemoteAddr()) {
			l.sendResult(acceptResult{nc: nc})
			continue
		}
		switch l.addPending(nc) {
		case addOK:
			l.wg.Go(func() { l.readHeader(nc) }) // ends with the connection's header, in HandshakeTimeout, or with Close
		case addFull:
			l.hub.reject(nc, RejectFull)
		case addClosed:
			nc.Close()
		}
	}
}

// trusts reports whether a header from an address is believed.
func (l *proxyListener) trusts(remote net.Addr) bool {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(l.trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// addPending notes a connection whose header has yet to come.
func (l *proxyListener) addPending(nc net.Conn) addResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.pending == nil:
		return addClosed
	case l.unaccepted >= l.hub.maxClients.Load():
		return addFull
	}
	l.unaccepted++
	l.pending[nc] = struct{}{}
	return addOK
}

// readHeader reads the header of a connection, and hands it to the one who accepts as one of its client.
func (l *proxyListener) readHeader(nc net.Conn) {
	defer func() {
		l.mu.Lock()
		l.unaccepted--
		l.mu.Unlock()
	}()
	_ = nc.SetReadDeadline(time.Now().Add(l.hub.config.HandshakeTimeout)) // fails only on a connection that is gone
	client, err := proxyheader.Read(nc)
	l.mu.Lock()
	delete(l.pending, nc)
	l.mu.Unlock()
	if err == nil {
		err = nc.SetReadDeadline(time.Time{})
	}
	switch {
	case err == nil && client.IsValid():
		l.sendResult(acceptResult{nc: socket.WithRemoteAddr(nc, net.TCPAddrFromAddrPort(client))})
	case err == nil:
		l.sendResult(acceptResult{nc: nc})
	default:
		if !errors.Is(err, io.EOF) && !isClosed(l.closed) { // nothing is wrong with a check of health
			l.hub.rejectHeader(nc.RemoteAddr(), err)
		}
		nc.Close()
	}
}

// sendResult hands something to the one who accepts, and reports whether somebody did. What nobody takes is closed.
func (l *proxyListener) sendResult(a acceptResult) bool {
	select {
	case l.results <- a:
		return true
	case <-l.closed:
		if a.nc != nil {
			a.nc.Close()
		}
		return false
	}
}

// rejectHeader counts and logs a connection that does not say who it is.
func (h *Hub) rejectHeader(addr net.Addr, err error) {
	h.counters.rejected[RejectHeader].Add(1)
	h.rejectLog.logWarn(h.config.Logger, "connection refused", "reason", RejectHeader.String(), "address", addr.String(), "error", err)
}

// warnProxyHeader logs that a connection has begun with a header of the PROXY protocol that nobody reads, if that is why
// it ended.
func (c *conn) warnProxyHeader(err error) {
	var length *wire.LengthError
	var record tls.RecordHeaderError
	var first []byte
	switch {
	case errors.As(err, &length) && !c.firstFrameSeen:
		first = binary.BigEndian.AppendUint32(nil, length.Length)
	case errors.As(err, &record):
		first = record.RecordHeader[:]
	}
	if proxyheader.HasPrefix(first) {
		c.hub.proxyHeaderLog.logWarn(c.hub.config.Logger, "connection begins with a PROXY header, which is not read", "address", c.sock.RemoteAddr().String(),
			"advice", "if that is the address of a load balancer, have the hub believe it: -proxy-protocol and -proxy-trusted, or Hub.NewProxyListener")
	}
}
