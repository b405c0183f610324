package socket

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// Line returns what TLS is to be spoken over instead of nc, where that helps: a Reader of the connection of crypto/tls waits beneath
// it for bytes to come, as it does without TLS, and so holds no buffer meanwhile, and half of the stack.
func Line(nc net.Conn) net.Conn {
	raw := rawConn(nc)
	if raw == nil {
		return nc
	}
	tcp, _ := TCP(nc)
	return &line{TCPConn: tcp, raw: raw, addr: nc.RemoteAddr()}
}

// line is a connection that can be told not to wait for bytes.
type line struct {
	*net.TCPConn
	raw  syscall.RawConn
	addr net.Addr // of the peer

	// Owned by the one who reads.
	atOnce bool
	fd     uintptr // valid while atOnce is set
	err    error   // what has ended the reading

	mu     sync.Mutex
	cork   *cork // what is written waits in it; nil: nothing waits
	broken bool  // a part of a record was written, and its rest never will be
}

// RemoteAddr implements net.Conn.
func (l *line) RemoteAddr() net.Addr { return l.addr }

// Read implements net.Conn. It returns errNothing instead of waiting, if that is asked for.
func (l *line) Read(p []byte) (int, error) {
	if !l.atOnce {
		return l.TCPConn.Read(p)
	}
	if l.err != nil {
		return 0, l.err
	}
	n, again, err := readRaw(l.fd, p)
	switch {
	case again:
		return 0, errNothing{}
	case n == 0 && err == nil:
		err = io.EOF
	}
	l.err = err   // crypto/tls may take it for temporary (ETIMEDOUT), and the kernel tells it once
	return n, err // if n is less than asked for, the end may stand behind it, and nothing wakes anybody for that again
}

// Write implements net.Conn. While there is a cork, p waits in it.
func (l *line) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.broken:
		return 0, net.ErrClosed
	case l.cork != nil:
		return l.cork.add(p)
	}
	return l.TCPConn.Write(p)
}

// readOver fills p with what has come over TLS, without waiting. again says that nothing has.
func (l *line) readOver(secure net.Conn, fd uintptr, p []byte) (n int, again bool, err error) {
	l.atOnce, l.fd = true, fd
	defer func() { l.atOnce = false }()
	for n < len(p) && err == nil {
		var m int
		m, err = secure.Read(p[n:])
		n += m
	}
	if err == (errNothing{}) {
		return n, n == 0, nil
	}
	return n, false, err
}

// errNothing says that nothing has come. It is a temporary error of the network: those do not end a connection of crypto/tls, which keeps what has come
// of a record (Conn.readRecordOrCCS, where it calls readFromUntil), as it does when a read deadline is over.
type errNothing struct{}

func (errNothing) Error() string   { return "nothing has come" }
func (errNothing) Timeout() bool   { return true }
func (errNothing) Temporary() bool { return true }
