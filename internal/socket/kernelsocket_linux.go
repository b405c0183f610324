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

	"golang.org/x/sys/unix"
)

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

// kernelSocket makes system calls on a TCP connection.
type kernelSocket struct {
	raw syscall.RawConn
}

// Values of Reader.n besides a number of bytes, and those of failed.
const (
	noMemory = math.MinInt32 // the Reader has no memory to read into
	notTried = noMemory + 1  // before the first try to read, if mustWait is to ask the kernel
)

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

// beginRead prepares a call of transport.Read. drained says that the last one has probably taken
// all data.
func (kernelSocket) beginRead(r *Reader, drained bool) {
	r.n = 0
	if drained && r.base.config.SparesStack && r.idleTimer == nil {
		r.n = notTried
	}
}

// mustWait reports whether there is no data to read yet. It asks only before the first try of a
// Read that must need little stack. To borrow a buffer, or to read through crypto/tls, can need
// more than a new goroutine has.
func (kernelSocket) mustWait(r *Reader, fd uintptr) bool {
	if r.n != notTried {
		return false
	}
	r.n = 0
	if readable, err := readableRaw(fd); readable || err != nil {
		return false
	}
	r.armDeadline()
	return true
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

// setSocketOptions sets TCP_NOTSENT_LOWAT (Config.MaxUnsentBytes) and TCP_USER_TIMEOUT
// (Config.UserTimeout) of a TCP connection. Errors are ignored: on a kernel without these
// options, the limits do not apply.
func setSocketOptions(nc net.Conn, config *Config) {
	raw := rawConn(nc)
	if raw == nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if config.MaxUnsentBytes > 0 {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, config.MaxUnsentBytes)
		}
		if config.UserTimeout > 0 {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(config.UserTimeout.Milliseconds()))
		}
	})
}
