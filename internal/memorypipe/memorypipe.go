// Package memorypipe connects two ends in memory, for tests. Unlike net.Pipe, it accepts bytes
// that were not read, tells whether bytes have arrived, and can write without waiting, as TCP
// does. It works in virtual time.
package memorypipe

import (
	"net"
	"syscall"
	"time"
)

// Size is the number of bytes that one direction accepts while they are not read, unless
// SetReadBuffer changes it.
const Size = 64 << 10

// Conn is one end of a pipe. Any goroutine can call its methods.
type Conn struct {
	in, out       *buffer
	local, remote net.Addr
}

// New returns two connected ends.
func New() (near, far *Conn) { return newPair(addr{}, addr{}) }

// newPair returns two connected ends with these addresses.
func newPair(nearAddr, farAddr net.Addr) (near, far *Conn) {
	a, b := newBuffer(), newBuffer()
	return &Conn{in: a, out: b, local: nearAddr, remote: farAddr}, &Conn{in: b, out: a, local: farAddr, remote: nearAddr}
}

// addr is the address of an end that New has made.
type addr struct{}

func (addr) Network() string { return "memory" }
func (addr) String() string  { return "memory" }

// WaitReadable waits until ReadAvailable returns bytes or an error. At the time of
// SetReadDeadline it returns os.ErrDeadlineExceeded, unless bytes have arrived.
func (c *Conn) WaitReadable() error { return c.in.waitReadable() }

// ReadAvailable reads bytes that have arrived. It does not wait, and has no deadline. Without
// any bytes it returns 0 and no error.
func (c *Conn) ReadAvailable(p []byte) (int, error) { return c.in.readAvailable(p) }

// WriteVector writes as many bytes of v as there is room for. If there is none, it waits if
// wait is set, and otherwise returns 0.
func (c *Conn) WriteVector(v [][]byte, wait bool) (int, error) { return c.out.write(v, wait) }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write implements net.Conn. Concurrent calls write one after the other.
func (c *Conn) Write(p []byte) (int, error) { return c.out.writeAll(p) }

// Close implements net.Conn. The other end can still read what was written.
func (c *Conn) Close() error {
	c.in.endReading()
	c.out.endWriting(nil)
	return nil
}

// Reset closes c as a TCP reset does: when the other end has read what was written, it gets
// syscall.ECONNRESET instead of io.EOF.
func (c *Conn) Reset() {
	c.in.endReading()
	c.out.endWriting(syscall.ECONNRESET)
}

// CloseWrite ends the writing.
func (c *Conn) CloseWrite() error {
	c.out.endWriting(nil)
	return nil
}

// SetReadBuffer sets the number of bytes that c accepts while they are not read. With 0 it accepts
// bytes only while a Read waits for them, as an end of net.Pipe does.
func (c *Conn) SetReadBuffer(bytes int) error {
	c.in.setSize(bytes)
	return nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(at time.Time) error {
	c.in.setDeadline(&c.in.readDeadline, at)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(at time.Time) error {
	c.out.setDeadline(&c.out.writeDeadline, at)
	return nil
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(at time.Time) error {
	_ = c.SetReadDeadline(at)
	return c.SetWriteDeadline(at)
}
