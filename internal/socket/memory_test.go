package socket

import (
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// memorySize is the number of bytes that a memoryBuffer accepts.
const memorySize = 64 << 10

// inMemory is a pair of buffers in memory. Unlike net.Pipe, it is a transport of its own: it
// accepts bytes that were not read, tells whether bytes have arrived, and can write without
// waiting, as TCP does. It works in virtual time.
var inMemory = testTransport{"memory", func(testing.TB) (near, far net.Conn) {
	a, b := newMemoryBuffer(), newMemoryBuffer()
	return &memoryConn{in: a, out: b}, &memoryConn{in: b, out: a}
}}

// newConn is New, with a transport of its own for the near end of inMemory.
func newConn(near net.Conn, config *Config, handler Handler) *Conn {
	m, ok := near.(*memoryConn)
	if !ok {
		return New(near, config, handler)
	}
	c := new(Conn)
	c.init(&memoryTransport{m, &c.Reader}, config, handler)
	return c
}

// memoryBuffer holds the bytes of one direction.
type memoryBuffer struct {
	mu      sync.Mutex
	changed sync.Cond

	// Guarded by mu.
	data     []byte
	ended    bool  // the writer has ended its side
	closed   error // of the reader; nil: it reads
	deadline time.Time
	timer    *time.Timer
}

func newMemoryBuffer() *memoryBuffer {
	b := new(memoryBuffer)
	b.changed.L = &b.mu
	return b
}

// read waits for bytes and copies them to the memory that buffer returns. It calls before
// ahead of each wait, without the lock.
func (b *memoryBuffer) read(before func(), buffer func() []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for armed := false; ; armed = true {
		switch {
		case b.closed != nil:
			return 0, b.closed
		case !b.deadline.IsZero() && !time.Now().Before(b.deadline):
			return 0, os.ErrDeadlineExceeded
		case len(b.data) > 0:
			p := buffer()
			if p == nil {
				return 0, errNoMemory
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

// write writes as many bytes as there is room for. If there is none, it waits if wait is set.
func (b *memoryBuffer) write(v [][]byte, wait bool) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.ended:
			return 0, net.ErrClosed
		case b.closed != nil:
			return 0, io.ErrClosedPipe
		case len(b.data) < memorySize:
			for _, p := range v {
				p = p[:min(len(p), memorySize-len(b.data))]
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

func (b *memoryBuffer) endWriting() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.changed.Broadcast()
}

func (b *memoryBuffer) endReading() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = net.ErrClosed
	b.changed.Broadcast()
}

func (b *memoryBuffer) setDeadline(at time.Time) {
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

// memoryConn is one end of inMemory.
type memoryConn struct{ in, out *memoryBuffer }

func (m *memoryConn) Read(p []byte) (int, error) {
	return m.in.read(func() {}, func() []byte { return p })
}

func (m *memoryConn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var part int
		part, err = m.out.write([][]byte{p[n:]}, true)
		n += part
	}
	return n, err
}

func (m *memoryConn) Close() error {
	m.in.endReading()
	m.out.endWriting()
	return nil
}

func (m *memoryConn) CloseWrite() error {
	m.out.endWriting()
	return nil
}

func (m *memoryConn) LocalAddr() net.Addr                { return nil }
func (m *memoryConn) RemoteAddr() net.Addr               { return nil }
func (m *memoryConn) SetDeadline(time.Time) error        { panic("not used") }
func (m *memoryConn) SetWriteDeadline(time.Time) error   { panic("not used") }
func (m *memoryConn) SetReadDeadline(at time.Time) error { m.in.setDeadline(at); return nil }

// memoryTransport is the transport of the near end of inMemory.
type memoryTransport struct {
	*memoryConn
	reader *Reader
}

func (t *memoryTransport) Read() (int, error) {
	r := t.reader
	n, err := t.in.read(r.armDeadline, func() []byte {
		p := r.nextBuffer(r.capSize(readSize))
		t.reader.lastReadFull = p != nil && len(p) <= len(t.in.data)
		return p
	})
	if err == os.ErrDeadlineExceeded && r.stopMode.Load() == stopWhenEmpty {
		return 0, ErrInterrupted
	}
	return n, err
}

func (t *memoryTransport) Write(v [][]byte, wait bool) (n, pending int, err error) {
	n, err = t.out.write(v, wait)
	return n, 0, err
}

func (t *memoryTransport) MaxWrite() int             { return 0 }
func (t *memoryTransport) Interrupt(at time.Time)    { t.in.setDeadline(at) }
func (t *memoryTransport) Close(how closeMode) error { return closeConn(t.memoryConn, how) }
func (t *memoryTransport) Conn() net.Conn            { return t.memoryConn }
