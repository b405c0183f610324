package socket

import (
	"errors"
	"net"
	"os"
	"time"
)

// PollableConn is a connection that tells whether bytes have arrived, and can write without
// waiting, as TCP does. New uses these methods of any net.Conn that has them: the connection
// then borrows memory only when bytes have arrived, and its outbox writes batches together.
type PollableConn interface {
	net.Conn

	// WaitReadable waits until ReadAvailable returns bytes or an error. At the time of
	// SetReadDeadline it returns os.ErrDeadlineExceeded, unless bytes have arrived.
	WaitReadable() error

	// ReadAvailable reads bytes that have arrived. It does not wait, and has no deadline. Without
	// any bytes it returns 0 and no error.
	ReadAvailable(p []byte) (n int, err error)

	// WriteVector writes as many bytes of v as the connection accepts at once. If it accepts none,
	// WriteVector waits if wait is set, and otherwise returns 0. Without any byte in v, it waits
	// until the connection accepts bytes.
	WriteVector(v [][]byte, wait bool) (n int, err error)
}

// pollableTransport is a connection that a PollableConn carries.
type pollableTransport struct {
	nc     PollableConn
	reader *Reader
}

// Read implements transport.
func (t *pollableTransport) Read() (int, error) {
	r := t.reader
	r.armDeadline()
	if err := t.nc.WaitReadable(); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) && r.stopMode.Load() == stopWhenEmpty {
			err = ErrInterrupted
		}
		return 0, err
	}
	p := r.nextBuffer(r.capSize(readSize))
	if p == nil {
		return 0, errNoMemory
	}
	n, err := t.nc.ReadAvailable(p)
	r.lastReadFull = n == len(p)
	if n == 0 {
		r.returnBuffer()
	}
	return n, err
}

// Write implements transport.
func (t *pollableTransport) Write(v [][]byte, wait bool) (n, pending int, err error) {
	n, err = t.nc.WriteVector(v, wait)
	return n, 0, err
}

// MaxWrite implements transport.
func (t *pollableTransport) MaxWrite() int { return 0 }

// Interrupt implements transport.
func (t *pollableTransport) Interrupt(at time.Time) {
	_ = t.nc.SetReadDeadline(at) // fails only on a closed connection, where Read fails as well
}

// Close implements transport.
func (t *pollableTransport) Close(how closeMode) error { return closeConn(t.nc, how) }

// Conn implements transport.
func (t *pollableTransport) Conn() net.Conn { return t.nc }
