package socket

import (
	"crypto/tls"
	"net"
	"time"
)

// tlsTransport is TLS over a nonblockConn. It waits for data and for room below TLS. While it
// waits, it holds no buffer and only half of the stack. It writes several records in one
// system call.
type tlsTransport struct {
	// Static after construction.
	tls       *tls.Conn
	lower     *nonblockConn
	reader    *Reader
	tryReadFn func(fd uintptr) bool // tryRead, bound once so that a read allocates nothing

	// Owned by the goroutine that reads.
	err error // of the last tryRead
}

func newTLSTransport(tlsConn *tls.Conn, lower *nonblockConn, r *Reader) *tlsTransport {
	t := &tlsTransport{tls: tlsConn, lower: lower, reader: r}
	t.tryReadFn = t.tryRead
	return t
}

// Read implements transport.
func (t *tlsTransport) Read() (int, error) {
	t.err = nil
	t.lower.beginRead(t.reader, t.lower.drained)
	if err := t.lower.read(t.reader, t.tryReadFn); err != nil {
		return 0, err
	}
	if t.reader.n > 0 {
		return int(t.reader.n), nil
	}
	return 0, t.err
}

// tryRead is tcpTransport.tryRead over TLS, where the size of the data that has arrived is not
// known.
func (t *tlsTransport) tryRead(fd uintptr) bool {
	return !t.lower.mustWait(t.reader, fd) && t.readNow(fd)
}

// readNow is tcpTransport.readNow over TLS.
//
//go:noinline
func (t *tlsTransport) readNow(fd uintptr) bool {
	r := t.reader
	p := r.nextBuffer(r.capSize(readSize))
	if p == nil {
		t.err = errNoMemory
		return true
	}
	n, again, err := t.lower.readTLS(t.tls, fd, p)
	if again {
		r.returnBuffer()
		r.armDeadline()
		return false
	}
	r.n, t.err, r.lastReadFull = int32(n), err, n == len(p)
	if n == 0 {
		r.returnBuffer()
	}
	return true
}

// Write implements transport. It waits for room before it encrypts: a peer that accepts no
// data thus holds no buffer. crypto/tls makes one system call per record; above one record,
// Write therefore collects the records in a cork (docs/decisions/0015). They are pending until
// the next calls write them.
func (t *tlsTransport) Write(v [][]byte, wait bool) (n, pending int, err error) {
	if c := t.lower.cork; c != nil {
		return t.writeRecords(c)
	}
	if _, ready, err := t.lower.write(nil, wait); err != nil || !ready || len(v) == 0 {
		return 0, 0, err
	}
	in := pieces{v: v}
	defer in.release()
	p := in.next(maxRecordSize)
	var c *cork
	if !in.empty() {
		b := &t.reader.base
		c = acquireCork(b.config.WriteAccount, b.Account())
	}
	if c != nil {
		return t.encrypt(c, p, &in)
	}
	if n, err = t.tls.Write(p); err != nil {
		pending = len(p) - n
	}
	return n, pending, err
}

// encrypt turns a piece, and all that follow it, into records in a cork.
func (t *tlsTransport) encrypt(c *cork, p []byte, in *pieces) (n, pending int, err error) {
	t.lower.setCork(c)
	for {
		pending += len(p)
		if _, err = t.tls.Write(p); err != nil {
			break
		}
		c.addRecord(len(p))
		if in.empty() {
			return 0, pending, nil
		}
		p = in.next(maxRecordSize)
	}
	for more := true; more; {
		var sent int
		sent, more, _ = t.lower.uncork()
		n += sent
	}
	c.free()
	return n, pending - n, err
}

// writeRecords writes collected records once.
func (t *tlsTransport) writeRecords(c *cork) (n, pending int, err error) {
	n, more, err := t.lower.uncork()
	pending = c.unsent()
	if !more {
		c.free()
	}
	return n, pending, err
}

// MaxWrite implements transport.
func (t *tlsTransport) MaxWrite() int { return corkPlainSize }

// Interrupt implements transport.
func (t *tlsTransport) Interrupt(at time.Time) {
	_ = t.tls.SetReadDeadline(at) // fails only on a closed connection, where Read fails as well
}

// Close implements transport. crypto/tls would wait up to 5 s for a peer that accepts no
// close_notify alert: Close sends it only to end the write side.
func (t *tlsTransport) Close(how closeMode) error { return closeConn(t.tls, how) }

// Conn implements transport.
func (t *tlsTransport) Conn() net.Conn { return t.tls }

// Unread implements kernelView.
func (t *tlsTransport) Unread() int { return t.lower.Unread() }

// SinceTCPAck implements kernelView.
func (t *tlsTransport) SinceTCPAck() (ago time.Duration, known bool) { return t.lower.SinceTCPAck() }

// PeerEnded implements kernelView.
func (t *tlsTransport) PeerEnded() bool { return t.lower.PeerEnded() }
