package socket

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// WrapForTLS returns what TLS is to be spoken over instead of nc, where that helps: a Reader of the connection of crypto/tls waits beneath
// it for bytes to come, as it does without TLS, and so holds no buffer meanwhile, and half of the stack.
func WrapForTLS(nc net.Conn) net.Conn {
	raw := rawConn(nc)
	if raw == nil {
		return nc
	}
	tcp, _ := TCP(nc)
	return &nonblockConn{TCPConn: tcp, raw: raw, addr: nc.RemoteAddr()}
}

// nonblockConn is a connection that can be told not to wait for bytes.
type nonblockConn struct {
	*net.TCPConn
	raw  syscall.RawConn
	addr net.Addr // of the peer

	// Owned by the one who reads.
	nonblocking bool
	fd          uintptr // valid while atOnce is set
	err         error   // what has ended the reading

	mu     sync.Mutex
	cork   *cork // what is written waits in it; nil: nothing waits
	broken bool  // a part of a record was written, and its rest never will be
}

// RemoteAddr implements net.Conn.
func (nb *nonblockConn) RemoteAddr() net.Addr { return nb.addr }

// Read implements net.Conn. It returns errWouldBlock instead of waiting, if that is asked for.
func (nb *nonblockConn) Read(p []byte) (int, error) {
	if !nb.nonblocking {
		return nb.TCPConn.Read(p)
	}
	if nb.err != nil {
		return 0, nb.err
	}
	n, again, err := readRaw(nb.fd, p)
	switch {
	case again:
		return 0, errWouldBlock{}
	case n == 0 && err == nil:
		err = io.EOF
	}
	nb.err = err  // crypto/tls may take it for temporary (ETIMEDOUT), and the kernel tells it once
	return n, err // if n is less than asked for, the end may stand behind it, and nothing wakes anybody for that again
}

// Write implements net.Conn. While there is a cork, p waits in it.
func (nb *nonblockConn) Write(p []byte) (int, error) {
	nb.mu.Lock()
	defer nb.mu.Unlock()
	switch {
	case nb.broken:
		return 0, net.ErrClosed
	case nb.cork != nil:
		return nb.cork.add(p)
	}
	return nb.TCPConn.Write(p)
}

// readTLS fills p with what has come over TLS, without waiting. again says that nothing has.
func (nb *nonblockConn) readTLS(tlsConn net.Conn, fd uintptr, p []byte) (n int, again bool, err error) {
	nb.nonblocking, nb.fd = true, fd
	defer func() { nb.nonblocking = false }()
	for n < len(p) && err == nil {
		var m int
		m, err = tlsConn.Read(p[n:])
		n += m
	}
	if err == (errWouldBlock{}) {
		return n, n == 0, nil
	}
	return n, false, err
}

// errWouldBlock says that nothing has come. It is a temporary error of the network: those do not end a connection of crypto/tls, which keeps what has come
// of a record (Conn.readRecordOrCCS, where it calls readFromUntil), as it does when a read deadline is over.
type errWouldBlock struct{}

func (errWouldBlock) Error() string   { return "nothing has come" }
func (errWouldBlock) Timeout() bool   { return true }
func (errWouldBlock) Temporary() bool { return true }
