package memorypipe

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// maxIdleCap is the maximum capacity that an empty buffer keeps, in bytes.
const maxIdleCap = 4 << 10

// buffer holds the bytes of one direction.
type buffer struct {
	mu      sync.Mutex
	changed sync.Cond

	// Guarded by mu.
	data          []byte
	pos           int   // the bytes of data before pos were read
	size          int   // see Conn.SetReadBuffer
	wanted        int   // the length of a Read that waits
	writing       bool  // a Write has written a part
	end           error // what the reader gets behind the last byte; nil: the writer writes
	readClosed    bool
	readDeadline  deadline
	writeDeadline deadline
}

// deadline is a time at which a wait ends. The zero value means never.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) hasPassed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newBuffer() *buffer {
	b := &buffer{size: Size}
	b.changed.L = &b.mu
	return b
}

func (b *buffer) unread() int { return len(b.data) - b.pos }

// room returns the number of bytes that are accepted now.
func (b *buffer) room() int { return max(0, max(b.size, b.wanted)-b.unread()) }

// read is Conn.Read.
func (b *buffer) read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n == 0 && err == nil {
		if b.readDeadline.hasPassed() && !b.readClosed {
			return 0, os.ErrDeadlineExceeded
		}
		if n, err = b.take(p); len(p) == 0 {
			return 0, err
		}
		if n == 0 && err == nil {
			b.waitFor(len(p))
		}
	}
	return n, err
}

// waitReadable is Conn.WaitReadable.
func (b *buffer) waitReadable() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.unread() == 0 && b.end == nil && !b.readClosed {
		if b.readDeadline.hasPassed() {
			return os.ErrDeadlineExceeded
		}
		b.waitFor(1)
	}
	return nil
}

// waitFor waits for a change, and accepts up to n bytes while it waits.
func (b *buffer) waitFor(n int) {
	if b.wanted = n; n > b.size {
		b.changed.Broadcast()
	}
	b.changed.Wait()
	b.wanted = 0
}

// readAvailable is Conn.ReadAvailable.
func (b *buffer) readAvailable(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.take(p)
}

// take is readAvailable for a caller that holds mu.
func (b *buffer) take(p []byte) (int, error) {
	switch {
	case b.readClosed:
		return 0, net.ErrClosed
	case b.unread() == 0:
		return 0, b.end
	}
	n := copy(p, b.data[b.pos:])
	b.pos += n
	if b.unread() == 0 {
		b.data, b.pos = b.data[:0], 0
		if cap(b.data) > maxIdleCap {
			b.data = nil
		}
	}
	b.changed.Broadcast()
	return n, nil
}

// writeAll is Conn.Write.
func (b *buffer) writeAll(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.writing { // not a lock of its own: virtual time does not pass while a mutex is waited for
		b.changed.Wait()
	}
	b.writing = true
	for n < len(p) && err == nil {
		var part int
		part, err = b.put([][]byte{p[n:]}, true)
		n += part
	}
	b.writing = false
	b.changed.Broadcast()
	return n, err
}

// write is Conn.WriteVector.
func (b *buffer) write(v [][]byte, wait bool) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.put(v, wait)
}

// put is write for a caller that holds mu.
func (b *buffer) put(v [][]byte, wait bool) (n int, err error) {
	for {
		switch {
		case b.end != nil:
			return 0, net.ErrClosed
		case b.readClosed:
			return 0, io.ErrClosedPipe
		case b.writeDeadline.hasPassed():
			return 0, os.ErrDeadlineExceeded
		case b.room() > 0:
			return b.append(v), nil
		case !wait:
			return 0, nil
		}
		b.changed.Wait()
	}
}

// append appends as many bytes of v as there is room for.
func (b *buffer) append(v [][]byte) (n int) {
	if b.pos > b.unread() { // moving the rest then costs less than the reading before it
		b.data, b.pos = b.data[:copy(b.data, b.data[b.pos:])], 0
	}
	for _, p := range v {
		p = p[:min(len(p), b.room())]
		b.data = append(b.data, p...)
		n += len(p)
	}
	b.changed.Broadcast()
	return n
}

// endWriting makes the reader get err behind the last byte. nil means io.EOF.
func (b *buffer) endWriting(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		err = io.EOF
	}
	if b.end == nil || b.end == io.EOF {
		b.end = err
	}
	b.changed.Broadcast()
}

func (b *buffer) endReading() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.readClosed, b.data, b.pos = true, nil, 0
	b.changed.Broadcast()
}

func (b *buffer) setSize(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size = n
	b.changed.Broadcast()
}

// setDeadline sets d, which is readDeadline or writeDeadline.
func (b *buffer) setDeadline(d *deadline, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.at = at; !at.IsZero() && !d.hasPassed() {
		d.timer = time.AfterFunc(time.Until(at), b.changed.Broadcast)
	}
	b.changed.Broadcast()
}
