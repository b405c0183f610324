// Package socket implements one framed connection, for the hub and for the client. A Reader
// reads frames and borrows memory only while there is data to read. A transport carries the
// bytes: TCP, TLS, or any other connection.
//
// On the path of a message, the package comes first and last: the Reader of the sender's
// connection returns whole frames, and the transport of each receiver's connection writes what
// its outbox holds. The package knows where a frame begins and ends. It does not handle frames
// and does not choose receivers: the hub and the client do.
package socket

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
)

// Errors that end a connection.
var (
	// ErrFrameTimeout means that an unfinished frame did not arrive in time: no byte, or fewer
	// bytes than the minimum rate requires.
	ErrFrameTimeout = errors.New("frame timeout: incomplete frame")

	// ErrInterrupted means that Reader.Interrupt or Reader.StopWhenEmpty ended the reading.
	ErrInterrupted = errors.New("reading interrupted")

	// ErrIdle means that no data has arrived for the time set by Reader.NotifyIdle. The
	// connection is still usable: Fill can be called again.
	ErrIdle = errors.New("idle: no data received")
)

// Config holds the settings of a Conn. All fields must be set unless their comment says
// otherwise.
type Config struct {
	// MaxLength is the maximum value of the length field of a received frame, in bytes.
	MaxLength int

	// FrameTimeout limits the time in which the rest of an unfinished frame must arrive. The
	// limit starts again each time that the frame has progressed by 1 KiB per second of
	// FrameTimeout.
	FrameTimeout time.Duration

	// Outbox holds the settings of the outbox.
	Outbox outbox.Config

	// MaxUnsentBytes limits the bytes that the kernel accepts and cannot send yet, on Linux.
	// Bytes in the outbox are bounded and shared fairly between connections; bytes in the kernel
	// are neither. 0 leaves the limit to the kernel.
	MaxUnsentBytes int

	// UserTimeout is the time after which the kernel ends a connection whose peer accepts no
	// data, on Linux: the peer has vanished, or its receive window has been closed all the time.
	// 0 leaves the timeout to the kernel, which retransmits for about 15 minutes to a vanished
	// peer and probes a closed window for ever.
	UserTimeout time.Duration

	// ReadAccount is charged for the memory of reads in progress. While the account has no room,
	// reads are small, but they continue. nil: no account is charged.
	ReadAccount *body.Account

	// WriteAccount is charged for TLS records that are gathered to be written together. They
	// leave the account before the outbox waits for the peer: see Handler.Account. While the
	// account has no room, each record is written in its own system call. nil: no account is
	// charged.
	WriteAccount *body.Account

	// MinWhole is the size, in bytes, above which a frame stays in the kernel until all of it has
	// arrived, or until the kernel accepts no more, on Linux and without TLS. Until then the
	// frame needs no memory of Handler.Account. Many connections can thus be in the middle of a
	// large frame while few of them hold memory for it. At least 64 KiB; 0: each frame is read as
	// it arrives.
	MinWhole int

	// KernelBudget limits how many bytes of such frames the kernel is asked to hold. nil: no
	// limit.
	KernelBudget *KernelBudget

	// RetainsFrames says that the reading goroutine keeps frames beyond the next Fill, by
	// Frame.Buffer.Retain. The Reader then copies a small read to a small buffer, because a
	// retained frame keeps its whole buffer in memory.
	RetainsFrames bool
}

// Handler is the owner of a connection. Its methods can be called concurrently and must not
// block.
type Handler interface {
	// Account returns the account that is charged for frames larger than a read buffer. While the
	// account has no room, the connection is not read. If the account has room, it is also
	// charged for TLS records that wait for the receive window of the peer and take more than 18
	// KiB, at most 64 KiB. nil: no account is charged.
	Account() *body.Account

	// Done returns a channel that is closed when the Reader must no longer wait for memory.
	Done() <-chan struct{}

	// OnWritten is called after each write, by the goroutine that writes, with the counts of what
	// the write has finished.
	OnWritten(outbox.Counts)

	// OnLost is called when the outbox is closed, at most twice, with the counts of the frames
	// that were still queued or blocked.
	OnLost(outbox.Counts)

	// OnWriteError is called once, when a write has failed or the peer has stalled. The handler
	// should then close the connection. An outbox with EnableAcks that has not stalled is
	// detached already.
	OnWriteError(error)
}

// base is what a connection is made of, for its Reader, and as an outbox.Conn for its Outbox.
// It is static after New.
type base struct {
	transport
	Handler
	config *Config
}

// Conn is one framed connection. Its Reader belongs to one goroutine; its Outbox can be used
// by any number of goroutines.
type Conn struct {
	Reader
	outbox.Outbox
}

// New returns a framed connection over nc and takes ownership of nc. It starts no goroutine:
// the outbox starts one when there is data to write.
func New(nc net.Conn, config *Config, handler Handler) *Conn {
	c := new(Conn)
	c.init(newTransport(nc, &c.Reader), config, handler)
	setSocketOptions(unwrap(nc), config)
	return c
}

// init initializes c with a transport that was made for its Reader.
func (c *Conn) init(t transport, config *Config, handler Handler) {
	c.Reader.init(base{t, handler, config})
	c.Outbox.Init(&c.Reader.base, &config.Outbox, t.MaxWrite())
}

func (c *Conn) transport() transport { return c.Reader.base.transport }

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.transport().Conn().RemoteAddr() }

// TLSState returns the state of the TLS connection, and false for a connection without TLS.
// The handshake must be complete.
func (c *Conn) TLSState() (tls.ConnectionState, bool) {
	tlsConn, ok := c.transport().Conn().(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return tlsConn.ConnectionState(), true
}

// Close closes the connection at once. Queued frames are lost and reported to Handler.OnLost.
// Close can be called more than once and from any goroutine. Over TLS, it does not send a
// close_notify alert, because crypto/tls would wait up to 5 s for a peer that accepts no data.
// CloseGracefully sends the alert.
func (c *Conn) Close() error {
	c.Outbox.Close()
	return c.transport().Close(closeNow)
}

// CloseTransport closes the network connection at once. A detached outbox keeps its frames.
func (c *Conn) CloseTransport() { _ = c.transport().Close(closeNow) }

// CloseWithFrame closes the network connection below a detached outbox. Before that it writes
// frame, unless the connection has accepted only a part of another frame. Both writes together
// take at most timeout.
func (c *Conn) CloseWithFrame(frame []byte, timeout time.Duration) {
	timer := time.AfterFunc(timeout, c.CloseTransport)
	defer timer.Stop()
	c.Outbox.Wait()
	if !c.Outbox.MidFrame() {
		c.writeFrame(frame)
	}
	c.CloseTransport()
}

// writeFrame writes a frame past the outbox. On failure, the peer only sees the connection
// closed.
func (c *Conn) writeFrame(frame []byte) {
	for len(frame) > 0 {
		n, pending, err := c.transport().Write([][]byte{frame}, true)
		for behind := pending; behind > 0 && err == nil; {
			_, behind, err = c.transport().Write(nil, true)
		}
		if err != nil {
			return
		}
		frame = frame[n+pending:]
	}
}

// Reset closes the connection at once with a TCP reset. The kernel drops the bytes that it has
// not sent, and a peer that does not read keeps no kernel memory here.
func (c *Conn) Reset() error {
	c.Outbox.Close()
	return c.transport().Close(closeReset)
}

// SetReadBuffer sets the size of the kernel's receive buffer of a TCP connection, in bytes. It
// limits what a client can send before it is read.
func SetReadBuffer(nc net.Conn, bytes int) {
	if tcp, ok := unwrap(nc).(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(bytes) // fails only on a closed connection
	}
}

// unwrap returns the network connection that carries nc: the connection below TLS, without the
// wrappers of this package.
func unwrap(nc net.Conn) net.Conn {
	if tlsConn, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = tlsConn.NetConn()
	}
	if tcp, ok := TCP(nc); ok {
		return tcp
	}
	return nc
}

// CloseWrite ends the write side of the connection. It returns errors.ErrUnsupported for a
// connection that has no half-close.
func (c *Conn) CloseWrite() error {
	return c.transport().Close(closeWriteSide)
}

// CloseGracefully ends the write side and waits at most timeout for the peer to end its side
// as well. Closing a connection with unread data would send a reset, which can destroy data on
// its way to the peer. CloseGracefully must be called by the goroutine that reads.
func (c *Conn) CloseGracefully(timeout time.Duration) {
	timer := time.AfterFunc(timeout, c.CloseTransport) // CloseWrite over TLS can wait as well
	defer timer.Stop()
	if c.CloseWrite() != nil {
		return
	}
	c.transport().Interrupt(time.Time{})
	_, _ = io.Copy(io.Discard, c.transport().Conn()) // ends at the end of the stream, or with the timer
}
