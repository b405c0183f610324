package socket

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
)

// WrapForTLS returns the connection to run TLS over in place of nc, if nc supports it;
// otherwise nc. A Reader of a crypto/tls connection then waits for data below TLS. While it
// waits, it holds no buffer and only half of the stack.
func WrapForTLS(nc net.Conn) net.Conn {
	raw := rawConn(nc)
	if raw == nil {
		return nc
	}
	tcp, _ := TCP(nc)
	return &nonblockConn{TCPConn: tcp, kernelSocket: kernelSocket{raw}, addr: nc.RemoteAddr()}
}

// overNonblockConn returns the two layers of nc if nc is TLS over a nonblockConn.
func overNonblockConn(nc net.Conn) (*tls.Conn, *nonblockConn, bool) {
	tlsConn, ok := nc.(*tls.Conn)
	if !ok {
		return nil, nil, false
	}
	nb, ok := tlsConn.NetConn().(*nonblockConn)
	return tlsConn, nb, ok
}

// nonblockConn is a TCP connection that can read without waiting.
type nonblockConn struct {
	*net.TCPConn
	kernelSocket
	addr net.Addr // of the peer

	// Owned by the goroutine that reads.
	nonblocking bool
	drained     bool    // the last readTLS has returned everything that had arrived
	fd          uintptr // valid while nonblocking is set
	err         error   // the error that ended the reading

	mu sync.Mutex

	// Guarded by mu.
	// cork collects writes; nil: writes go to the connection. Only the goroutine that writes
	// changes it.
	cork   *cork
	broken bool // a part of a record was written, and its rest never will be
}

// RemoteAddr implements net.Conn.
func (nb *nonblockConn) RemoteAddr() net.Addr { return nb.addr }

// setRemoteAddr is for WithRemoteAddr.
func (nb *nonblockConn) setRemoteAddr(addr net.Addr) { nb.addr = addr }

func (nb *nonblockConn) tcpConn() *net.TCPConn { return nb.TCPConn }

// Read implements net.Conn. While nonblocking is set, it returns errWouldBlock instead of
// waiting.
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
	// If n < len(p), the end of the stream can follow directly: the caller must read again,
	// because no later event would report the end.
	nb.err = err // crypto/tls can take err for temporary (ETIMEDOUT); the kernel reports it once
	return n, err
}

// Write implements net.Conn. While a cork is set, the cork collects p.
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

// readTLS fills p with data that has arrived over TLS, without waiting. again says that there
// is none.
func (nb *nonblockConn) readTLS(tlsConn net.Conn, fd uintptr, p []byte) (n int, again bool, err error) {
	nb.nonblocking, nb.fd = true, fd
	defer func() { nb.nonblocking = false }()
	for n < len(p) && err == nil {
		var m int
		m, err = tlsConn.Read(p[n:])
		n += m
	}
	nb.drained = err == errWouldBlock{}
	if nb.drained {
		return n, n == 0, nil
	}
	return n, false, err
}

// errWouldBlock means that no data has arrived. It is a temporary network error. Such an error
// does not end a connection of crypto/tls, which keeps the part of a record that has arrived
// (Conn.readRecordOrCCS, at its call of readFromUntil), as it does when a read deadline
// expires.
type errWouldBlock struct{}

func (errWouldBlock) Error() string   { return "operation would block" }
func (errWouldBlock) Timeout() bool   { return true }
func (errWouldBlock) Temporary() bool { return true }
