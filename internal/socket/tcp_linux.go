package socket

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// newTransport returns the transport of nc for a Reader.
func newTransport(nc net.Conn, r *Reader) transport {
	if tlsConn, nb, ok := overNonblockConn(nc); ok {
		return newTLSTransport(tlsConn, nb, r)
	}
	if raw := rawConn(nc); raw != nil {
		return newTCPTransport(nc, raw, r)
	}
	return &netConnTransport{nc, r}
}

// rawConn returns the raw connection of nc for system calls, or nil if nc is not a TCP
// connection.
func rawConn(nc net.Conn) syscall.RawConn {
	tcp, ok := TCP(nc)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// tcpTransport is a TCP connection that is read and written by system calls on its file
// descriptor. It is static after construction, and small, because each connection has one.
type tcpTransport struct {
	nc net.Conn // a *net.TCPConn or a *tcpAddrConn
	kernelSocket
	reader    *Reader
	tryReadFn func(fd uintptr) bool // tryRead, bound once so that a read allocates nothing
}

func newTCPTransport(nc net.Conn, raw syscall.RawConn, r *Reader) *tcpTransport {
	t := &tcpTransport{nc: nc, kernelSocket: kernelSocket{raw}, reader: r}
	t.tryReadFn = t.tryRead
	r.leavesLarge = true
	return t
}

// noMemory is the value of Reader.n if the Reader has no memory to read into.
const noMemory = math.MinInt32

// failed returns the value of Reader.n for an error of a system call, or for io.EOF.
func failed(err error) int32 {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return -int32(errno)
	case err == nil || errors.Is(err, io.EOF):
		return 0
	}
	return -int32(syscall.EIO) // not reached: system calls return no other errors
}

// Read implements transport.
func (t *tcpTransport) Read() (int, error) {
	if err := t.read(t.reader, t.tryReadFn); err != nil {
		return 0, err
	}
	switch n := t.reader.n; {
	case n > 0:
		return int(n), nil
	case n == 0:
		return 0, io.EOF
	case n == noMemory:
		return 0, errNoMemory
	default:
		return 0, syscall.Errno(-n)
	}
}

// tryRead reads without waiting. The runtime calls it when the socket can be readable; false
// makes the runtime wait. tryRead borrows memory only now, and returns it if no data has
// arrived.
func (t *tcpTransport) tryRead(fd uintptr) bool {
	r := t.reader
	if r.start != nil && r.waitsForWhole() {
		if done, streamed := t.tryReadWhole(fd); !streamed {
			return done
		}
	}
	p := r.nextBuffer(r.capSize(readSize))
	if p == nil {
		return t.tryWithoutMemory(fd)
	}
	if r.lowatRaised {
		r.lowatRaised = false
		_ = setRcvLowatRaw(fd, 1) // fails only on a closed connection, where the read fails as well
	}
	n, again, err := readRaw(fd, p)
	if again {
		r.returnBuffer()
		r.armDeadline()
		return false
	}
	r.n, r.lastReadFull = int32(n), n == len(p)
	if n == 0 {
		r.returnBuffer()
		r.n = failed(err)
	}
	return true
}

// tryWithoutMemory is tryRead without memory to read into. It ends the Read only if the rest
// of the frame has arrived, or a full read buffer of it. Until then the data stays in the
// kernel: a peer that announces a large frame, sends a small part of it and is then silent
// must not get memory that others wait for.
func (t *tcpTransport) tryWithoutMemory(fd uintptr) bool {
	r := t.reader
	r.lowatRaised = true
	ready, err := pollRcvLowatRaw(fd, max(1, min(r.size, readSize)-r.startLen))
	switch {
	case err != nil:
		r.n = failed(err)
	case ready:
		r.n = noMemory
	default:
		r.armDeadline()
		return false
	}
	return true
}

// Write implements transport.
func (t *tcpTransport) Write(v [][]byte, wait bool) (n, pending int, err error) {
	n, _, err = t.write(v, wait)
	return n, 0, err
}

// MaxWrite implements transport.
func (t *tcpTransport) MaxWrite() int { return 0 }

// Interrupt implements transport.
func (t *tcpTransport) Interrupt(at time.Time) {
	_ = t.nc.SetReadDeadline(at) // fails only on a closed connection, where Read fails as well
}

// Close implements transport.
func (t *tcpTransport) Close(how closeMode) error { return closeConn(t.nc, how) }

// Conn implements transport.
func (t *tcpTransport) Conn() net.Conn { return t.nc }

// kernelSocket makes system calls on a TCP connection.
type kernelSocket struct {
	raw syscall.RawConn
}

// read calls try, which reads without waiting, until it returns true.
func (s kernelSocket) read(r *Reader, try func(fd uintptr) bool) error {
	err := s.raw.Read(try)
	if errors.Is(err, os.ErrDeadlineExceeded) && r.stopMode.Load() == stopWhenEmpty {
		done := false
		if err = s.raw.Control(func(fd uintptr) { done = try(fd) }); err == nil && !done {
			return ErrInterrupted
		}
	}
	return err
}

// Unread implements kernelView.
func (s kernelSocket) Unread() (n int) {
	_ = s.raw.Control(func(fd uintptr) { n = unreadRaw(fd) }) // fails only on a closed connection
	return n
}

// SinceTCPAck implements kernelView.
func (s kernelSocket) SinceTCPAck() (ago time.Duration, known bool) {
	if s.raw.Control(func(fd uintptr) { ago, known = sinceTCPAckRaw(fd) }) != nil {
		return 0, false
	}
	return ago, known
}

// PeerEnded implements kernelView.
func (s kernelSocket) PeerEnded() (ended bool) {
	return s.raw.Control(func(fd uintptr) { ended = peerEndedRaw(fd) }) != nil || ended
}

// write writes v once, as transport.Write says. Without any byte in v, ready reports whether
// there is room to write.
func (s kernelSocket) write(v [][]byte, wait bool) (n int, ready bool, err error) {
	w := rawWrites.Get().(*rawWrite)
	defer w.release()
	w.wait = wait
	for _, p := range v {
		w.vector = w.vector.add(p)
	}
	if err := s.raw.Write(w.tryFn); err != nil {
		return 0, false, err
	}
	return w.n, w.ready, w.err
}

// rawWrite is the state of a write. It is pooled: a connection that does not write holds none.
type rawWrite struct {
	tryFn  func(fd uintptr) bool // try, bound once so that a write allocates nothing
	vector vector
	wait   bool
	n      int
	ready  bool // the connection accepts bytes, or has failed
	err    error
}

var rawWrites = sync.Pool{New: func() any {
	w := &rawWrite{vector: make(vector, 0, 4)} // small, because thousands of peers can accept no data
	w.tryFn = w.try
	return w
}}

// try writes without waiting. The runtime calls it when the socket can be writable; false
// makes the runtime wait.
func (w *rawWrite) try(fd uintptr) bool {
	if len(w.vector) == 0 {
		w.ready = writableRaw(fd)
	} else {
		var again bool
		w.n, again, w.err = writeRaw(fd, w.vector)
		w.ready = !again
	}
	return w.ready || !w.wait
}

func (w *rawWrite) release() {
	clear(w.vector) // the pool must keep no buffer alive
	*w = rawWrite{tryFn: w.tryFn, vector: w.vector[:0]}
	rawWrites.Put(w)
}
