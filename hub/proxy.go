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

// proxyListener is a listener that takes the addresses of clients from PROXY headers.
type proxyListener struct {
	// Static after newProxyListener.
	net.Listener
	admission     *admitter // counts the connections that the listener rejects
	headerTimeout time.Duration
	trusted       []netip.Prefix
	results       chan acceptResult
	closed        chan struct{}
	close         func() error

	wg sync.WaitGroup

	// mu guards the fields below.
	mu         sync.Mutex
	unaccepted int64                 // connections whose header is pending or that wait for Accept
	pending    map[net.Conn]struct{} // connections whose header has not arrived; nil: closed
}

// newProxyListener returns a listener for the connections of ln, and starts its goroutines.
func newProxyListener(admission *admitter, headerTimeout time.Duration, ln net.Listener, trusted []netip.Prefix) *proxyListener {
	l := &proxyListener{
		Listener: ln, admission: admission, headerTimeout: headerTimeout, trusted: slices.Clone(trusted),
		results: make(chan acceptResult), closed: make(chan struct{}), pending: make(map[net.Conn]struct{}),
	}
	l.close = sync.OnceValue(l.shutdown)
	l.wg.Go(l.acceptLoop) // ends with Close
	return l
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
			l.admission.reject(nc, RejectFull)
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
	case l.unaccepted >= l.admission.maxClients.Load():
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
	_ = nc.SetReadDeadline(time.Now().Add(l.headerTimeout)) // fails only if closed
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
			l.admission.recordInvalidHeader(nc.RemoteAddr(), err)
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

// beganWithProxyHeader reports whether err, which ended a connection, shows that the connection
// began with a PROXY header. first says that it ended with its first frame or before.
func beganWithProxyHeader(err error, first bool) bool {
	var length *wire.LengthError
	var record tls.RecordHeaderError
	var start []byte
	switch {
	case errors.As(err, &length) && first:
		start = binary.BigEndian.AppendUint32(nil, length.Length)
	case errors.As(err, &record):
		start = record.RecordHeader[:]
	}
	return proxyheader.HasPrefix(start)
}
