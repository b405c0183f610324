package socket

import (
	"net"

	"github.com/sechlol/go-message-hub/internal/body"
)

const (
	// corkSize is how many bytes of records leave in one system call: 64 KiB, the most that Linux
	// hands to a network card in one piece (GSO).
	corkSize = 64 << 10

	// corkPlainSize is how many bytes become records that fit into that.
	corkPlainSize = corkSize - 1<<10

	// maxCorkUncharged is how many bytes of records that the peer has yet to make room for are charged to
	// nobody: crypto/tls holds as much for one that it writes by itself.
	maxCorkUncharged = maxRecordSize + 2<<10
)

// cork holds the records that crypto/tls writes to a line, until they leave together. It holds
// memory only while an outbox writes.
type cork struct {
	// Static.
	tryWriteFn func(fd uintptr) bool // tryWrite, bound once so that a write allocates nothing

	// Guarded by the mutex of the line while it is the line's, and then owned by the flusher.
	conn        *nonblockConn
	peerAccount *body.Account // charged for what the peer makes no room for; nil: nobody is
	buffer      *body.Buffer
	from, to    int // what of the buffer is still to be written
	added       int // bytes of records that were added
	sent        int // those of them that the kernel has taken
	vector      vector
	err         error    // of the last attempt
	records     []record // what the outbox has written, in order
	reported    int      // how many of them left has returned
}

// record is what one Write of the outbox became.
type record struct {
	plainLen int // bytes that were written
	end      int // where it ends in what was added
}

func newCork() *cork {
	c := new(cork)
	c.tryWriteFn = c.tryWrite
	return c
}

// acquire takes the memory for records if it is to be had from account. What is left while the peer
// makes no room is charged to that of the peer. nil: nobody is charged.
func (c *cork) acquire(account, peerAccount *body.Account) bool {
	c.buffer, c.peerAccount = tryAcquire(account, corkSize), peerAccount
	return c.buffer != nil
}

// release gives it back.
func (c *cork) release() {
	if c.buffer != nil {
		c.buffer.Release()
	}
	clear(c.vector[:cap(c.vector)])
	*c = cork{tryWriteFn: c.tryWriteFn, vector: c.vector[:0], records: c.records[:0]}
}

// setCork has what is written from now on wait in c.
func (nb *nonblockConn) setCork(c *cork) {
	nb.mu.Lock()
	defer nb.mu.Unlock()
	c.conn, nb.cork = nb, c
}

// uncork writes what waits, once, when the connection takes some of it. It returns how much of what
// the outbox has written has left in whole records since the last time, and whether more waits:
// then it must be called again.
func (nb *nonblockConn) uncork() (n int, more bool, err error) {
	nb.mu.Lock()
	defer nb.mu.Unlock()
	c := nb.cork
	if c.from < c.to {
		err = c.write()
	}
	more = c.from < c.to && err == nil
	if !more {
		nb.cork = nil
	}
	return c.takeSent(), more, err
}

// addRecord notes that n bytes of the outbox have become a record.
func (c *cork) addRecord(n int) {
	c.conn.mu.Lock()
	defer c.conn.mu.Unlock()
	c.records = append(c.records, record{n, c.added})
}

// The following are called with the mutex of the line held.

// add has p wait, and writes what waits when there is no more room.
func (c *cork) add(p []byte) (n int, err error) {
	for {
		m := copy(c.buffer.Bytes()[c.to:], p[n:])
		n, c.to, c.added = n+m, c.to+m, c.added+m
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
	if c.conn.broken {
		return net.ErrClosed
	}
	c.err = nil
	err := c.conn.raw.Write(c.tryWriteFn)
	if err == nil {
		err = c.err
	}
	c.conn.broken = err != nil
	if c.from == c.to {
		c.from, c.to = 0, 0
	}
	return err
}

// takeSent returns how much of what the outbox has written has left in whole records since the last
// time.
func (c *cork) takeSent() (n int) {
	for c.reported < len(c.records) && c.records[c.reported].end <= c.sent {
		n += c.records[c.reported].plainLen
		c.reported++
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
// nothing must not hold what all share who write. Above maxCorkUncharged that is charged to the peer, as
// overhead, for only its going on gives it back. Without room there, what is left stays where it
// is.
func (c *cork) shrink() {
	unsent := c.buffer.Bytes()[c.from:c.to]
	var account *body.Account
	if len(unsent) > maxCorkUncharged {
		account = c.peerAccount
	}
	if account == c.buffer.Account() && body.Capacity(len(unsent)) == len(c.buffer.Bytes()) {
		return
	}
	var small *body.Buffer
	if account == nil {
		small = body.Get(len(unsent))
	} else if small = account.TryAcquireOverhead(len(unsent)); small == nil {
		return
	}
	c.from, c.to = 0, copy(small.Bytes(), unsent)
	c.buffer.Release()
	c.buffer = small
}
