// Package memorypipe connects two ends in memory, for tests. Unlike net.Pipe, it accepts bytes
// that were not read, tells whether bytes have arrived, and can write without waiting, as TCP
// does. It works in virtual time.
package memorypipe

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Size is the number of bytes that one direction accepts while they are not read.
const Size = 64 << 10

// ErrNoBuffer means that ReadInto got no memory to read into.
var ErrNoBuffer = errors.New("no memory to read into")

// New returns two connected ends.
func New() (near, far *Conn) {
	a, b := newBuffer(), newBuffer()
	return &Conn{in: a, out: b}, &Conn{in: b, out: a}
}

// buffer holds the bytes of one direction.
type buffer struct {
	mu      sync.Mutex
	changed sync.Cond

	// Guarded by mu.
	data     []byte
	ended    bool  // the writer has ended its side
	closed   error // of the reader; nil: it reads
	deadline time.Time
	timer    *time.Timer
}

func newBuffer() *buffer {
	b := new(buffer)
	b.changed.L = &b.mu
	return b
}

// read is Conn.ReadInto.
func (b *buffer) read(before func(), memory func(arrived int) []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for armed := false; ; armed = true {
		switch {
		case b.closed != nil:
			return 0, b.closed
		case !b.deadline.IsZero() && !time.Now().Before(b.deadline):
			return 0, os.ErrDeadlineExceeded
		case len(b.data) > 0:
			p := memory(len(b.data))
			if p == nil {
				return 0, ErrNoBuffer
			}
			n = copy(p, b.data)
			b.data = b.data[:copy(b.data, b.data[n:])]
			b.changed.Broadcast()
			return n, nil
		case b.ended:
			return 0, io.EOF
		case armed:
			b.changed.Wait()
		}
		b.mu.Unlock()
		before()
		b.mu.Lock()
	}
}

// write is Conn.WriteVector.
func (b *buffer) write(v [][]byte, wait bool) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.ended:
			return 0, net.ErrClosed
		case b.closed != nil:
			return 0, io.ErrClosedPipe
		case len(b.data) < Size:
			for _, p := range v {
				p = p[:min(len(p), Size-len(b.data))]
				b.data = append(b.data, p...)
				n += len(p)
			}
			b.changed.Broadcast()
			return n, nil
		case !wait:
			return 0, nil
		}
		b.changed.Wait()
	}
}

func (b *buffer) endWriting() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.changed.Broadcast()
}

func (b *buffer) endReading() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = net.ErrClosed
	b.changed.Broadcast()
}

func (b *buffer) setDeadline(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if b.deadline = at; !at.IsZero() {
		b.timer = time.AfterFunc(time.Until(at), b.changed.Broadcast)
	}
	b.changed.Broadcast()
}

// Conn is one end of a pipe.
type Conn struct{ in, out *buffer }

// ReadInto waits for bytes, and copies them to the memory that memory returns for the given
// number of bytes; if that is nil, it returns ErrNoBuffer. It calls before ahead of each wait.
func (c *Conn) ReadInto(before func(), memory func(arrived int) []byte) (int, error) {
	return c.in.read(before, memory)
}

// WriteVector writes as many bytes of v as there is room for. If there is none, it waits if
// wait is set, and otherwise returns 0.
func (c *Conn) WriteVector(v [][]byte, wait bool) (int, error) { return c.out.write(v, wait) }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	return c.in.read(func() {}, func(int) []byte { return p })
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var part int
		part, err = c.out.write([][]byte{p[n:]}, true)
		n += part
	}
	return n, err
}

// Close implements net.Conn. The other end can still read what was written.
func (c *Conn) Close() error {
	c.in.endReading()
	c.out.endWriting()
	return nil
}

// CloseWrite ends the writing.
func (c *Conn) CloseWrite() error {
	c.out.endWriting()
	return nil
}

// LocalAddr implements net.Conn. A pipe has no addresses.
func (c *Conn) LocalAddr() net.Addr { return nil }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return nil }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(at time.Time) error {
	c.in.setDeadline(at)
	return nil
}

// SetWriteDeadline implements net.Conn. There is none.
func (c *Conn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(time.Time) error { return errors.ErrUnsupported }
