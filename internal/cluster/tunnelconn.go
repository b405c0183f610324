package cluster

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// TunnelConn is the end of a tunnel at the hub of the session: a connection to the client. It is a
// socket.PollableConn. Any goroutine can call its methods, but only one at a time can write.
type TunnelConn struct {
	tunnel *Tunnel // static
	remote net.Addr

	mu      sync.Mutex
	changed sync.Cond

	// Guarded by mu.
	data     []byte // bytes that have arrived
	pos      int    // those before were read
	passed   uint64 // number of bytes that were read since the tunnel was opened
	end      error  // what Read returns behind data; nil: the client is connected
	closed   bool
	deadline time.Time // of reads; zero: none
	timer    *time.Timer
}

// maxIdleData is the maximum capacity that data keeps while it is empty, in bytes.
const maxIdleData = 512

func newTunnelConn(t *Tunnel, r *TunnelRequest) *TunnelConn {
	c := &TunnelConn{tunnel: t, remote: tunnelAddr(r)}
	c.changed.L = &c.mu
	t.handler = c
	return c
}

// tunnelAddr returns the address of the client that r names. It looks no name up: that would block
// the link.
func tunnelAddr(r *TunnelRequest) net.Addr {
	if addr, err := netip.ParseAddrPort(r.Address); r.Network == "tcp" && err == nil {
		return net.TCPAddrFromAddrPort(addr)
	}
	return textAddr{r.Network, r.Address}
}

// textAddr is an address of any network.
type textAddr struct{ network, address string }

func (a textAddr) Network() string { return a.network }
func (a textAddr) String() string  { return a.address }

// HandleData implements TunnelHandler.
func (c *TunnelConn) HandleData(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	if c.pos > len(c.data)-c.pos { // moving the rest costs less than the reading before it
		c.data, c.pos = c.data[:copy(c.data, c.data[c.pos:])], 0
	}
	c.data = append(c.data, p...)
	c.changed.Broadcast()
}

// HandleEnd implements TunnelHandler.
func (c *TunnelConn) HandleEnd(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end = err; err != ErrTunnelBroken {
		c.end = io.EOF
	}
	c.changed.Broadcast()
}

// WaitReadable waits until ReadAvailable returns bytes or an error. At the time of
// SetReadDeadline it returns os.ErrDeadlineExceeded, unless bytes have arrived.
func (c *TunnelConn) WaitReadable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.pos == len(c.data) && c.end == nil && !c.closed {
		if !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
			return os.ErrDeadlineExceeded
		}
		c.changed.Wait()
	}
	return nil
}

// ReadAvailable reads bytes that have arrived. It does not wait. Without any bytes it returns 0 and
// no error.
func (c *TunnelConn) ReadAvailable(p []byte) (n int, err error) {
	c.mu.Lock()
	n, err = c.take(p)
	passed := c.passed
	c.mu.Unlock()
	if n > 0 {
		c.tunnel.Grant(passed)
	}
	return n, err
}

// take is ReadAvailable with mu held.
func (c *TunnelConn) take(p []byte) (n int, err error) {
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.pos == len(c.data):
		return 0, c.end
	}
	n = copy(p, c.data[c.pos:])
	c.pos += n
	c.passed += uint64(n)
	if c.pos == len(c.data) {
		c.data, c.pos = c.data[:0], 0
		if cap(c.data) > maxIdleData {
			c.data = nil
		}
	}
	return n, nil
}

// Read implements net.Conn.
func (c *TunnelConn) Read(p []byte) (n int, err error) {
	for n == 0 && err == nil && len(p) > 0 {
		if err = c.WaitReadable(); err == nil {
			n, err = c.ReadAvailable(p)
		}
	}
	return n, err
}

// WriteVector writes as many bytes of v as the other end permits. If it permits none, WriteVector
// waits if wait is set, and otherwise returns 0. Without any byte in v, it waits until the other
// end permits bytes.
func (c *TunnelConn) WriteVector(v [][]byte, wait bool) (n int, err error) {
	for {
		n, err = c.tunnel.Write(v)
		if n > 0 || err != nil || !wait {
			return n, err
		}
		if c.tunnel.CanWrite() {
			if isEmptyVector(v) {
				return 0, nil
			}
			continue
		}
		<-c.tunnel.Writable()
	}
}

// isEmptyVector reports whether v has no bytes.
func isEmptyVector(v [][]byte) bool {
	for _, p := range v {
		if len(p) > 0 {
			return false
		}
	}
	return true
}

// Write implements net.Conn.
func (c *TunnelConn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var part int
		part, err = c.WriteVector([][]byte{p[n:]}, true)
		n += part
	}
	return n, err
}

// Close implements net.Conn. The client still gets what was written.
func (c *TunnelConn) Close() error { return c.CloseWithStatus(0) }

// CloseWithStatus is Close with a status for the close frame, if the client has a WebSocket.
func (c *TunnelConn) CloseWithStatus(status uint16) error {
	c.tunnel.Close(status)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.data, c.pos = true, nil, 0
	if c.timer != nil {
		c.timer.Stop()
	}
	c.changed.Broadcast()
	return nil
}

// LocalAddr implements net.Conn. It has no meaning.
func (c *TunnelConn) LocalAddr() net.Addr { return textAddr{"tunnel", "tunnel"} }

// RemoteAddr implements net.Conn. It returns the address of the client.
func (c *TunnelConn) RemoteAddr() net.Addr { return c.remote }

// SetReadDeadline implements net.Conn.
func (c *TunnelConn) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if c.deadline = at; !at.IsZero() && !c.closed {
		if left := time.Until(at); left > 0 {
			c.timer = time.AfterFunc(left, c.wake)
		}
	}
	c.changed.Broadcast()
	return nil
}

// wake wakes those who wait, at the deadline. Without mu, it could come between the look at the
// deadline and the wait.
func (c *TunnelConn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed.Broadcast()
}

// SetWriteDeadline implements net.Conn. Writes have no deadline: Close ends them.
func (c *TunnelConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// SetDeadline implements net.Conn. It sets that of reads.
func (c *TunnelConn) SetDeadline(at time.Time) error { return c.SetReadDeadline(at) }
