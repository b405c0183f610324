// Package socket is one framed connection, used by the hub and the client
// alike: a Reader that borrows memory only while there is something to read, and
// an Outbox that is bounded in bytes and writes by itself. It knows where a frame
// begins and ends, but neither what is in it nor who it is for: that is the
// business of hub and client.
package socket

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// Errors that end a connection.
var (
	// ErrFrameTimeout says that the rest of a frame did not come in time, nor enough of it.
	ErrFrameTimeout = errors.New("rest of the frame did not arrive in time")

	// ErrInterrupted says that Reader.Interrupt ended the reading.
	ErrInterrupted = errors.New("reading interrupted")

	// ErrIdle says that nothing has come for as long as Reader.NotifyIdle was told. The connection
	// is as good as before, and Fill may be called again.
	ErrIdle = errors.New("nothing came for a while")

	// ErrStalled says that the peer did not take what others wait to send it.
	ErrStalled = errors.New("receiver stalled")
)

// Config is what a Conn needs to know. All fields must be set unless they say
// otherwise.
type Config struct {
	// MaxLength is the largest length field that is taken, in bytes.
	MaxLength int

	// FrameTimeout is how long the rest of a frame may take to arrive, or the next part of it:
	// as much as it brings at 1 KiB a second.
	FrameTimeout time.Duration

	// MaxOutboxBytes is how many bytes may wait in the outbox before it is full. A
	// frame that finds it below is taken whole, so that much may come on top.
	MaxOutboxBytes int

	// StallTimeout is how long a full outbox may go without losing one frame or
	// 64 KiB to the peer. Over TLS what has left is what has left in whole records of at most
	// 16 KiB: nobody can read less. 0 means for ever: then somebody else must limit it.
	StallTimeout time.Duration

	// MaxUnsentBytes is how much the kernel may take over that it cannot send yet,
	// where it can be told. What waits here is bounded and fairly shared; what
	// waits there is neither. 0 leaves it to the kernel.
	MaxUnsentBytes int

	// UserTimeout is after how long the kernel gives up a peer that takes nothing, where
	// it can be told: one that has vanished, or whose window has been closed all the time.
	// 0 leaves it to the kernel, which tries for a quarter of an hour with the one, and for
	// ever with the other.
	UserTimeout time.Duration

	// ReadAccount is charged for the memory of reads in progress. When it has no room,
	// reads become small, but they go on. nil: nobody is charged.
	ReadAccount *body.Account

	// WriteAccount is charged for the records of TLS that leave together, where they can, but not for
	// long: see Handler.Account. When it has no room, each leaves by itself. nil: nobody is charged.
	WriteAccount *body.Account

	// CoalesceDelay is how long the outbox must have been dry for a little to be written by the
	// one who offers it. Whoever offers whole batches needs none; one who offers
	// message by message would otherwise write each by itself.
	CoalesceDelay time.Duration

	// MinWhole is the size, in bytes, above which a frame is left in the kernel until all of it has
	// come, or as much as the kernel takes: on Linux, without TLS. Until then it needs no memory of
	// the owner's Account. So many connections may be in the middle of a large frame while few hold
	// memory for one. At least 64 KiB; 0: each frame is read as it comes.
	MinWhole int

	// KernelBudget bounds what the kernel is asked to hold of such frames. nil: nothing does.
	KernelBudget *KernelBudget

	// RetainsFrames says that the one who reads will keep frames beyond the next Fill, by
	// Frame.Buffer.Retain. The reader then sees to it that little frames do not
	// keep large buffers.
	RetainsFrames bool
}

// Handler is whose connection it is. Its methods may be called concurrently and
// must not block.
type Handler interface {
	// Account is charged for frames larger than a read buffer. When it has no room,
	// the connection is not read until there is. It is charged as well for records of TLS that
	// the peer makes no room for, if they have more than 18 KiB and it has room: at most
	// 64 KiB. nil: nobody is charged.
	Account() *body.Account

	// Done returns a channel that is closed when the Reader must not wait for memory any more.
	Done() <-chan struct{}

	// OnWritten is called after each write with what it finished, by whoever writes.
	OnWritten(Counts)

	// OnLost is called with what was still queued or parked when the outbox was
	// closed, in at most two parts.
	OnLost(Counts)

	// OnWriteError is called once, when writing has failed or the peer has stalled. The
	// owner should then Close; a connection whose outbox is numbered is Detached if it
	// has not stalled.
	OnWriteError(error)
}

// Counts counts frames in an outbox, or what became of them.
type Counts struct {
	Frames     int // whole frames
	Deliveries int // those of them that carry a message
	Bytes      int
}

func (c *Counts) add(other Counts) {
	c.Frames += other.Frames
	c.Deliveries += other.Deliveries
	c.Bytes += other.Bytes
}

// base is what both sides of a connection stand on. It is static after New.
type base struct {
	nc       net.Conn
	raw      syscall.RawConn // the way around nc; nil: there is none
	nonblock *nonblockConn   // what nc speaks TLS over, if one can wait there; nil: not
	config   *Config
	handler  Handler
}

// Conn is one framed connection. Reader belongs to one goroutine; Outbox may be
// used by any number.
type Conn struct {
	Reader
	Outbox
}

// New makes a framed connection of nc, which belongs to it from now on. It
// starts no goroutine: the outbox starts one when there is something to write.
func New(nc net.Conn, config *Config, handler Handler) *Conn {
	c := new(Conn)
	c.Reader.init(base{nc, rawConn(nc), nonblockConnOf(nc), config, handler})
	c.Outbox.init(&c.Reader.base)
	if raw := rawConn(unwrap(nc)); raw != nil {
		setSocketOptions(raw, config)
	}
	return c
}

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.Reader.base.nc.RemoteAddr() }

// TLSState returns the state of TLS, and false where there is none. The handshake must be over.
func (c *Conn) TLSState() (tls.ConnectionState, bool) {
	tlsConn, ok := c.Reader.base.nc.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return tlsConn.ConnectionState(), true
}

// Close closes the connection at once. What is queued is lost and counted as
// such. It may be called more than once and from anywhere. Over TLS it does not take its leave: crypto/tls
// would wait up to 5 s for a peer that takes nothing. Farewell does, for one that may.
func (c *Conn) Close() error {
	c.Outbox.close()
	return unwrap(c.Reader.base.nc).Close()
}

// CloseTransport ends the connection at once and keeps what a detached outbox holds.
func (c *Conn) CloseTransport() { _ = unwrap(c.Reader.base.nc).Close() }

// CloseWithFrame severs a connection whose outbox is detached, and before that tells the
// peer one more frame if it takes that within patience.
func (c *Conn) CloseWithFrame(frame []byte, timeout time.Duration) {
	if c.Reader.base.nc.SetWriteDeadline(time.Now().Add(timeout)) == nil {
		c.Outbox.Wait()
		if !c.Outbox.midFrame() {
			_, _ = c.Reader.base.nc.Write(frame) // who does not hear it finds the connection closed
		}
	}
	c.CloseTransport()
}

// Reset closes the connection at once and lets the kernel forget what it has
// not yet sent, so that a peer that does not read keeps no memory here.
func (c *Conn) Reset() error {
	tcp, ok := unwrap(c.Reader.base.nc).(*net.TCPConn)
	if !ok {
		return c.Close()
	}
	_ = tcp.SetLinger(0) // fails only on a connection that is gone already
	c.Outbox.close()
	return tcp.Close()
}

// SetReadBuffer tells the kernel how many bytes it may hold for one who does not read yet, where
// it can be told.
func SetReadBuffer(nc net.Conn, bytes int) {
	if tcp, ok := unwrap(nc).(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(bytes) // fails only on a closed connection
	}
}

// unwrap returns the connection that carries nc: another one if that is TLS.
func unwrap(nc net.Conn) net.Conn {
	if tlsConn, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = tlsConn.NetConn()
	}
	if nb, ok := nc.(*nonblockConn); ok {
		return nb.TCPConn
	}
	if tcp, ok := TCP(nc); ok {
		return tcp
	}
	return nc
}

// nonblockConnOf returns the line that nc speaks TLS over, if it does.
func nonblockConnOf(nc net.Conn) *nonblockConn {
	tlsConn, ok := nc.(interface{ NetConn() net.Conn })
	if !ok {
		return nil
	}
	nb, _ := tlsConn.NetConn().(*nonblockConn)
	return nb
}

// CloseWrite tells the peer that nothing more will come. It returns
// errors.ErrUnsupported where the connection cannot say so.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Reader.base.nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// rawConn returns the way around the net package where there is one.
func rawConn(nc net.Conn) syscall.RawConn {
	tcp, ok := TCP(nc)
	if !ok || !rawSupported {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// CloseGracefully tells the peer that nothing more will come and gives it at most
// patience to end its side as well, so that closing does not reset a connection
// with something unread on it. It must be called by the one who reads.
func (c *Conn) CloseGracefully(timeout time.Duration) {
	timer := time.AfterFunc(timeout, c.CloseTransport) // CloseWrite of TLS may wait as well
	defer timer.Stop()
	if c.CloseWrite() != nil || c.Reader.base.nc.SetReadDeadline(time.Now().Add(timeout)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c.Reader.base.nc) // ends with the peer, or in time
}
