package socket

import (
	"net"

	"github.com/sechlol/go-message-hub/internal/body"
)

const (
	// corkSize is how many bytes of records leave in one system call: as many as TCP hands to the
	// network in one piece.
	corkSize = 64 << 10

	// corkPlain is how many bytes become records that fit into that.
	corkPlain = corkSize - 1<<10

	// corkRest is the memory that a connection may take without being charged for records that the
	// peer has yet to make room for: crypto/tls holds as much for one that it writes by itself.
	corkRest = recordSize + 2<<10
)

// cork holds the records that crypto/tls writes to a line, until they leave together. It holds
// memory only while an outbox writes.
type cork struct {
	// Static.
	attempt func(fd uintptr) bool // tryWrite, bound once so that a write allocates nothing

	// Guarded by the mutex of the line while it is the line's, and then owned by the flusher.
	line     *line
	buffer   *body.Buffer
	from, to int // what of the buffer is still to be written
	taken    int // bytes of records that were added
	sent     int // those of them that the kernel has taken
	vector   vector
	err      error    // of the last attempt
	records  []record // what the outbox has written, in order
}

// record is what one Write of the outbox became.
type record struct {
	plain int // bytes that were written
	end   int // where it ends in what was added
}

func newCork() *cork {
	c := new(cork)
	c.attempt = c.tryWrite
	return c
}

// draw takes the memory for records if it is to be had from account; nil: nobody is charged.
func (c *cork) draw(account *body.Account) bool {
	c.buffer = draw(account, corkSize)
	return c.buffer != nil
}

// drop gives it back.
func (c *cork) drop() {
	if c.buffer != nil {
		c.buffer.Release()
	}
	clear(c.vector[:cap(c.vector)])
	*c = cork{attempt: c.attempt, vector: c.vector[:0], records: c.records[:0]}
}

// setCork has what is written from now on wait in c.
func (l *line) setCork(c *cork) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.line, l.cork = l, c
}

// uncork writes what waits. It returns how much of what the outbox has written left in whole
// records.
func (l *line) uncork() (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.cork
	l.cork = nil
	err = c.flush()
	for _, r := range c.records {
		if r.end <= c.sent {
			n += r.plain
		}
	}
	return n, err
}

// wrote notes that n bytes of the outbox have become a record.
func (c *cork) wrote(n int) {
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	c.records = append(c.records, record{n, c.taken})
}

// The following are called with the mutex of the line held.

// add has p wait, and writes what waits when there is no more room.
func (c *cork) add(p []byte) (n int, err error) {
	for {
		m := copy(c.buffer.Bytes()[c.to:], p[n:])
		n, c.to, c.taken = n+m, c.to+m, c.taken+m
		if n == len(p) {
			return n, nil
		}
		if err := c.flush(); err != nil {
			return n, err
		}
	}
}

// flush writes what waits. If it fails, nothing can be written to the line any more.
func (c *cork) flush() error {
	for c.from < c.to && !c.line.broken {
		c.err = nil
		err := c.line.raw.Write(c.attempt)
		if err == nil {
			err = c.err
		}
		if err != nil {
			c.line.broken = true
			return err
		}
	}
	c.from, c.to = 0, 0
	if c.line.broken {
		return net.ErrClosed
	}
	return nil
}

// tryWrite is called by the runtime when there may be room.
func (c *cork) tryWrite(fd uintptr) bool {
	c.vector = c.vector[:0].add(c.buffer.Bytes()[c.from:c.to])
	n, again, err := writeRaw(fd, c.vector)
	c.from, c.sent, c.err = c.from+n, c.sent+n, err
	if again {
		c.shrink()
	}
	return !again
}

// shrink gives back what was charged before a wait for the peer, if little is left to be written.
func (c *cork) shrink() {
	rest := c.buffer.Bytes()[c.from:c.to]
	if len(rest) > corkRest || c.buffer.Account() == nil && len(c.buffer.Bytes()) <= corkRest {
		return
	}
	small := body.Get(len(rest))
	c.from, c.to = 0, copy(small.Bytes(), rest)
	c.buffer.Release()
	c.buffer = small
}
