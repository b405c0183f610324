package socket

import (
	"errors"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// netConnTransport is any connection of package net, such as a pipe, or TCP on a system other
// than Linux. It cannot tell whether bytes have arrived, and needs memory while it waits.
type netConnTransport struct {
	nc     net.Conn
	reader *Reader
}

// Read asks for readSize only if the last read filled its buffer, or returned at least half of
// a full TLS record.
func (t *netConnTransport) Read() (int, error) {
	r := t.reader
	size := idleBufSize + r.startLen
	if r.lastReadFull {
		size = r.capSize(readSize)
	}
	p := r.nextBuffer(size)
	if p == nil {
		return 0, errNoMemory
	}
	if r.midFrame() { // between two frames, ErrIdle would need the buffer to be given up
		r.armDeadline()
	}
	n, err := t.nc.Read(p)
	r.lastReadFull = n == len(p) || n >= maxRecordSize/2
	if n == 0 {
		r.returnBuffer()
		r.lastReadFull = false
	}
	return n, err
}

// Write always waits, because package net does.
func (t *netConnTransport) Write(v [][]byte, _ bool) (n, pending int, err error) {
	if len(v) == 0 {
		return 0, 0, nil
	}
	in := pieces{v: v}
	defer in.release()
	p := in.next(outbox.MinProgress)
	n, err = t.nc.Write(p)
	if err != nil {
		pending = len(p) - n
	}
	return n, pending, err
}

// MaxWrite lets a stalled peer be told from a slow peer: Write returns only when the peer has
// accepted all bytes.
func (t *netConnTransport) MaxWrite() int { return outbox.MinProgress }

func (t *netConnTransport) Interrupt(at time.Time) {
	_ = t.nc.SetReadDeadline(at) // fails only on a closed connection, where Read fails as well
}

func (t *netConnTransport) Close(how closeMode) error { return closeConn(t.nc, how) }

func (t *netConnTransport) Conn() net.Conn { return t.nc }

// closeConn is transport.Close for a connection of package net.
func closeConn(nc net.Conn, how closeMode) error {
	lower := unwrap(nc)
	switch how {
	case closeWriteSide:
		if half, ok := nc.(interface{ CloseWrite() error }); ok {
			return half.CloseWrite()
		}
		return errors.ErrUnsupported
	case closeReset:
		if tcp, ok := lower.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // fails only on a closed connection
		}
	}
	return lower.Close()
}

// SetReadBuffer sets the size of the kernel's receive buffer of a TCP connection, in bytes. It
// limits what a client can send before it is read.
func SetReadBuffer(nc net.Conn, bytes int) {
	if tcp, ok := unwrap(nc).(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(bytes) // fails only on a closed connection
	}
}

// unwrap returns the network connection that carries nc: the connection below WebSocket and TLS,
// without the wrappers of this package.
func unwrap(nc net.Conn) net.Conn {
	for {
		upper, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		nc = upper.NetConn()
	}
	if tcp, ok := TCP(nc); ok {
		return tcp
	}
	return nc
}

// TCP returns the TCP connection of nc. It returns false if nc is not a TCP connection, or
// runs TLS over a TCP connection.
func TCP(nc net.Conn) (*net.TCPConn, bool) {
	switch nc := nc.(type) {
	case *net.TCPConn:
		return nc, true
	case interface{ tcpConn() *net.TCPConn }:
		return nc.tcpConn(), true
	}
	return nil, false
}
