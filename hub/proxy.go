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

// NewProxyListener returns a listener for Serve on which each connection from a trusted
// address must begin with a PROXY protocol header, version 1 or 2. A load balancer sends this
// header to name the address of the client. The hub then uses the client's address in the log,
// for Config.MaxPerAddress and ConnectRate, in ClientInfo and for Config.Authenticate.
// Connections from other addresses keep their own address, and a header from them is not
// accepted. TLS, if any, goes on top: NewTLSListener(h.NewProxyListener(ln, trusted), config).
//
// A header must arrive within Config.HandshakeTimeout. A connection that waits for its header
// delays no other connection. At most as many connections wait as Hub.SetMaxClients allows.
// The hub rejects a connection without a header (RejectHeader), unless it ends before its
// first byte, as health checks do.
//
// The listener starts goroutines, and its Close waits for them. Serve calls Close.
func (h *Hub) NewProxyListener(ln net.Listener, trusted []netip.Prefix) net.Listener {
	l := &proxyListener{
		Listener: ln, hub: h, trusted: slices.Clone(trusted),
		results: make(chan acceptResult), closed: make(chan struct{}), pending: make(map[net.Conn]struct{}),
	}
	l.close = sync.OnceValue(l.shutdown)
	l.wg.Go(l.acceptLoop) // ends with Close
	return l
}

// proxyListener is a listener that takes the addresses of clients from PROXY headers.
type proxyListener struct {
	net.Listener
	hub     *Hub
	trusted []netip.Prefix
	results chan acceptResult
	closed  chan struct{}
	close   func() error
	wg      sync.WaitGroup

	mu         sync.Mutex
	unaccepted int64                 // connections whose header is pending or that wait for Accept
	pending    map[net.Conn]struct{} // connections whose header has not arrived; nil: closed
}

// acceptResult is a result of Accept.
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

// Close implements net.Listener. It waits for all goroutines of the listener.
func (l *proxyListener) Close() error { return l.close() }

// shutdown closes the underlying listener and all pending connections, and waits for the
// goroutines.
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

// acceptLoop accepts connections until Close. It passes errors to Accept, whose caller decides
// how long to wait.
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
			l.wg.Go(func() { l.readHeader(nc) }) // ends with the header, its timeout or Close
		case addFull:
			l.hub.reject(nc, RejectFull)
		case addClosed:
			nc.Close()
		}
	}
}

// trusts reports whether the listener accepts headers from remote.
func (l *proxyListener) trusts(remote net.Addr) bool {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(l.trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// addPending registers a connection whose header has not arrived yet.
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

// readHeader reads the header of nc and passes the connection, with the client's address, to
// Accept.
func (l *proxyListener) readHeader(nc net.Conn) {
	defer func() {
		l.mu.Lock()
		l.unaccepted--
		l.mu.Unlock()
	}()
	_ = nc.SetReadDeadline(time.Now().Add(l.hub.config.HandshakeTimeout)) // fails only if closed
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
		if !errors.Is(err, io.EOF) && !isClosed(l.closed) { // a health check is not an error
			l.hub.rejectHeader(nc.RemoteAddr(), err)
		}
		nc.Close()
	}
}

// sendResult passes a result to Accept and reports whether Accept received it. It closes the
// connection of a result that Accept does not receive.
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

// rejectHeader counts and logs a connection without a valid header.
func (h *Hub) rejectHeader(addr net.Addr, err error) {
	h.counters.rejected[RejectHeader].Add(1)
	h.limitedLog.LogWarn("connection refused", "reason", RejectHeader.String(), "address", addr.String(), "error", err)
}

// warnProxyHeader logs an unexpected PROXY header if err, which ended the connection, shows
// that the connection began with one.
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
		c.hub.limitedLog.LogWarn("unexpected PROXY header", "address", c.sock.RemoteAddr().String(),
			"advice", "if that is the address of a load balancer, accept its headers with -proxy-protocol and -proxy-trusted, or Hub.NewProxyListener")
	}
}
