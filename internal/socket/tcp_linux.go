package socket

import (
	"io"
	"net"
	"syscall"
	"time"
)

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

// Read implements transport.
func (t *tcpTransport) Read() (int, error) {
	r := t.reader
	t.beginRead(r, !r.lastReadFull && !r.midFrame() && !r.lowatRaised)
	if err := t.read(r, t.tryReadFn); err != nil {
		return 0, err
	}
	switch n := r.n; {
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
func (t *tcpTransport) tryRead(fd uintptr) bool { return !t.mustWait(t.reader, fd) && t.readNow(fd) }

// readNow is tryRead after mustWait, which must not have the frame of readNow on its stack.
//
//go:noinline
func (t *tcpTransport) readNow(fd uintptr) bool {
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
