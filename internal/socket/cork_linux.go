package socket

import (
	"net"
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
)

const (
	// corkSize is the number of bytes of TLS records that are written in one system call: 64 KiB,
	// the most that Linux passes to a network card in one piece (GSO).
	corkSize = 64 << 10

	// corkPlainSize is the number of bytes of plaintext whose records fit into corkSize.
	corkPlainSize = corkSize - 1<<10

	// maxCorkUncharged is the maximum number of bytes of records that wait for the receive window
	// of the peer and are charged to no account. crypto/tls holds as much for a record that it
	// writes by itself.
	maxCorkUncharged = maxRecordSize + 2<<10
)

// cork collects the records that crypto/tls writes to a nonblockConn, and writes them
// together. It is pooled: a connection that does not write holds none.
type cork struct {
	// Static after construction.
	tryWriteFn func(fd uintptr) bool // tryWrite, bound once so that a write allocates nothing

	// Guarded by conn.mu while the cork is set in conn; otherwise owned by the goroutine that
	// writes.
	conn        *nonblockConn
	peerAccount *body.Account // charged for records that wait for the peer; nil: no account is
	buffer      *body.Buffer
	from, to    int // the part of buffer that is not written yet
	added       int // bytes of records added so far
	sent        int // bytes of these that the kernel has accepted
	vector      vector
	err         error    // of the last tryWrite
	records     []record // the records of the transport, in order
	reported    int      // number of records that takeSent has counted
}

// record describes the TLS record of one piece of a vector.
type record struct {
	plainLen int // bytes of plaintext
	end      int // value of cork.added behind the record
}

var corks = sync.Pool{New: func() any { return newCork() }}

func newCork() *cork {
	c := new(cork)
	c.tryWriteFn = c.tryWrite
	return c
}

// acquireCork returns a cork with memory as acquire says, or nil if there is no room.
func acquireCork(account, peerAccount *body.Account) *cork {
	c := corks.Get().(*cork)
	if !c.acquire(account, peerAccount) {
		corks.Put(c)
		return nil
	}
	return c
}

// free gives the memory and the cork back. The cork must not be set in a connection.
func (c *cork) free() {
	c.release()
	corks.Put(c)
}

// acquire takes memory for records from account and reports whether there was room. Records
// that wait for the peer are charged to peerAccount later. nil: no account is charged.
func (c *cork) acquire(account, peerAccount *body.Account) bool {
	c.buffer, c.peerAccount = account.TryAcquire(corkSize), peerAccount
	return c.buffer != nil
}

// release gives the memory back and resets the cork.
func (c *cork) release() {
	if c.buffer != nil {
		c.buffer.Release()
	}
	clear(c.vector[:cap(c.vector)])
	*c = cork{tryWriteFn: c.tryWriteFn, vector: c.vector[:0], records: c.records[:0]}
}

// setCork makes all later writes to nb go into c.
func (nb *nonblockConn) setCork(c *cork) {
	nb.mu.Lock()
	defer nb.mu.Unlock()
	c.conn, nb.cork = nb, c
}

// uncork waits until the connection accepts data and writes collected records once. It returns
// the number of plaintext bytes whose whole records were written since the last call. more
// says that records remain: uncork must then be called again.
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

// addRecord notes that the records added so far end with a record of n bytes of plaintext.
func (c *cork) addRecord(n int) {
	c.conn.mu.Lock()
	defer c.conn.mu.Unlock()
	c.records = append(c.records, record{n, c.added})
}

// unsent returns the number of plaintext bytes of the records that takeSent has not counted.
func (c *cork) unsent() (n int) {
	for _, r := range c.records[c.reported:] {
		n += r.plainLen
	}
	return n
}

// The following are called with conn.mu held.

// add collects p, and writes the collected records when there is no more room.
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

// flush writes all collected records.
func (c *cork) flush() error {
	for c.from < c.to {
		if err := c.write(); err != nil {
			return err
		}
	}
	return nil
}

// write waits until the connection accepts data and writes once. After a failure, no more data
// can be written to the connection.
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

// takeSent returns the number of plaintext bytes whose whole records were written since the
// last call.
func (c *cork) takeSent() (n int) {
	for c.reported < len(c.records) && c.records[c.reported].end <= c.sent {
		n += c.records[c.reported].plainLen
		c.reported++
	}
	return n
}

// tryWrite writes without waiting. The runtime calls it when the socket can be writable; false
// makes the runtime wait.
func (c *cork) tryWrite(fd uintptr) bool {
	c.vector = c.vector[:0].add(c.buffer.Bytes()[c.from:c.to])
	n, again, err := writeRaw(fd, c.vector)
	c.from, c.sent, c.err = c.from+n, c.sent+n, err
	if again {
		c.shrink()
	}
	return !again
}

// shrink moves the remaining records to a buffer of their own size before a wait for the peer:
// a peer that accepts no data must not hold memory that all writing connections share. Above
// maxCorkUncharged, the buffer is charged to the account of the peer, as overhead, because
// only progress of this peer frees it. If that account has no room, the records stay where
// they are.
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
