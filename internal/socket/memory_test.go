package socket

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/memorypipe"
)

// inMemory is a transport of its own: unlike over net.Pipe, bytes are accepted before they are
// read, and memory is borrowed only when bytes have arrived.
var inMemory = testTransport{"memory", func(testing.TB) (near, far net.Conn) {
	return memorypipe.New()
}}

// newConn is New, with a transport of its own for the near end of inMemory.
func newConn(near net.Conn, config *Config, handler Handler) *Conn {
	m, ok := near.(*memorypipe.Conn)
	if !ok {
		return New(near, config, handler)
	}
	c := new(Conn)
	c.init(&memoryTransport{m, &c.Reader}, config, handler)
	return c
}

// memoryTransport is the transport of the near end of inMemory.
type memoryTransport struct {
	conn   *memorypipe.Conn
	reader *Reader
}

func (t *memoryTransport) Read() (int, error) {
	r := t.reader
	n, err := t.conn.ReadInto(r.armDeadline, func(arrived int) []byte {
		p := r.nextBuffer(r.capSize(readSize))
		r.lastReadFull = p != nil && len(p) <= arrived
		return p
	})
	switch {
	case err == memorypipe.ErrNoBuffer:
		err = errNoMemory
	case errors.Is(err, os.ErrDeadlineExceeded) && r.stopMode.Load() == stopWhenEmpty:
		err = ErrInterrupted
	}
	return n, err
}

func (t *memoryTransport) Write(v [][]byte, wait bool) (n, pending int, err error) {
	n, err = t.conn.WriteVector(v, wait)
	return n, 0, err
}

func (t *memoryTransport) MaxWrite() int             { return 0 }
func (t *memoryTransport) Interrupt(at time.Time)    { _ = t.conn.SetReadDeadline(at) }
func (t *memoryTransport) Close(how closeMode) error { return closeConn(t.conn, how) }
func (t *memoryTransport) Conn() net.Conn            { return t.conn }
