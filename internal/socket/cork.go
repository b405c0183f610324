package socket

import (
	"net"

	"github.com/sechlol/go-message-hub/internal/body"
)

const (
	// corkSize is how many bytes of records leave in one system call: 64 KiB, the most that Linux
	// hands to a network card in one piece (GSO).
	corkSize = 64 << 10

	// corkPlain is how many bytes become records that fit into that.
	corkPlain = corkSize - 1<<10

	// corkRest is how many bytes of records that the peer has yet to make room for are charged to
	// nobody: crypto/tls holds as much for one that it writes by itself.
	corkRest = recordSize + 2<<10
)

// cork holds the records that crypto/tls writes to a line, until they leave together. It holds
// memory only while an outbox writes.
type cork struct {
	// Static.
	attempt func(fd uintptr) bool // tryWrite, bound once so that a write allocates nothing

	// Guarded by the mutex of the line while it is the line's, and then owned by the flusher.
	line     *line
	peer     *body.Account // charged for what the peer makes no room for; nil: nobody is
	buffer   *body.Buffer
	from, to int // what of the buffer is still to be written
	taken    int // bytes of records that were added
	sent     int // those of them that the kernel has taken
	vector   vector
	err      error    // of the last attempt
	records  []record // what the outbox has written, in order
	told     int      // how many of them left has returned
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

// draw takes the memory for records if it is to be had from account. What is left while the peer
// makes no room is charged to that of the peer. nil: nobody is charged.
func (c *cork) draw(account, peer *body.Account) bool {
	c.buffer, c.peer = draw(account, corkSize), peer
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

// uncork writes what waits, once, when the connection takes some of it. It returns how much of what
// the outbox has written has left in whole records since the last time, and whether more waits:
// then it must be called again.
func (l *line) uncork() (n int, more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.cork
	if c.from < c.to {
		err = c.write()
	}
	more = c.from < c.to && err == nil
	if !more {
		l.cork = nil
	}
	return c.left(), more, err
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

// flush writes what waits.
func (c *cork) flush() error {
	for c.from < c.to {
		if err := c.write(); err != nil {
			return err
		}
	}
	return nil
}

// write does so once, when the connection takes some of it. If it fails, nothing can be written to
// the line any more.
func (c *cork) write() error {
	if c.line.broken {
		return net.ErrClosed
	}
	c.err = nil
	err := c.line.raw.Write(c.attempt)
	if err == nil {
		err = c.err
	}
	c.line.broken = err != nil
	if c.from == c.to {
		c.from, c.to = 0, 0
	}
	return err
}

// left returns how much of what the outbox has written has left in whole records since the last
// time.
func (c *cork) left() (n int) {
	for c.told < len(c.records) && c.records[c.told].end <= c.sent {
		n += c.records[c.told].plain
		c.told++
	}
	return n
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

// shrink moves what is left to memory of its own size before a wait for the peer: one that takes
// nothing must not hold what all share who write. Above corkRest that is charged to the peer, as
// overhead, for only its going on gives it back. Without room there, what is left stays where it
// is.
func (c *cork) shrink() {
	rest := c.buffer.Bytes()[c.from:c.to]
	var account *body.Account
	if len(rest) > corkRest {
		account = c.peer
	}
	if account == c.buffer.Account() && body.Capacity(len(rest)) == len(c.buffer.Bytes()) {
		return
	}
	var small *body.Buffer
	if account == nil {
		small = body.Get(len(rest))
	} else if small = account.TryDrawOverhead(len(rest)); small == nil {
		return
	}
	c.from, c.to = 0, copy(small.Bytes(), rest)
	c.buffer.Release()
	c.buffer = small
}
