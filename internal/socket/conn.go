// Package socket implements one framed connection, for the hub and for the client. A Reader
// reads frames and borrows memory only while there is data to read. A transport carries the
// bytes: TCP, TLS, any other connection, or a WebSocket over one of these.
//
// On the path of a message, the package comes first and last: the Reader of the sender's
// connection returns whole frames, and the transport of each receiver's connection writes what
// its outbox holds. The package knows where a frame begins and ends. It does not handle frames
// and does not choose receivers: the hub and the client do.
package socket

import (
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

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

// newTransport returns the transport of nc for a Reader.
func newTransport(nc net.Conn, r *Reader) transport {
	if marked, ok := nc.(*webSocketConn); ok {
		return newWebSocketTransport(newTransport(marked.Conn, r), r)
	}
	if t := newKernelTransport(nc, r); t != nil {
		return t
	}
	if pollable, ok := nc.(PollableConn); ok {
		return &pollableTransport{pollable, r}
	}
	return &netConnTransport{nc, r}
}

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.transport().Conn().RemoteAddr() }

// TLSState returns the state of the TLS connection, and false for a connection without TLS.
// The handshake must be complete.
func (c *Conn) TLSState() (tls.ConnectionState, bool) {
	tlsConn, ok := c.transport().Conn().(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return tls.ConnectionState{}, false
	}
	return tlsConn.ConnectionState(), true
}

// SetCloseStatus sets the status of the close frame that ends a WebSocket: StatusNormal by
// default. Only the first call has an effect, and none if the client has sent a close frame or has
// broken a rule of WebSocket before: Conn then answers with the status of the client, or of the
// error. Any goroutine can call SetCloseStatus. It calls the method of that name of a net.Conn that
// has one, and does nothing on other connections.
func (c *Conn) SetCloseStatus(status CloseStatus) {
	switch t := c.transport().(type) {
	case *webSocketTransport:
		t.setStatus(status)
	case *pollableTransport:
		if nc, ok := t.nc.(interface{ SetCloseStatus(status CloseStatus) }); ok {
			nc.SetCloseStatus(status)
		}
	}
}

// Close closes the connection at once. Queued frames are lost and reported to Handler.OnLost.
// Close can be called more than once and from any goroutine. Over TLS, it does not send a
// close_notify alert, because crypto/tls would wait up to 5 s for a peer that accepts no data.
// CloseGracefully sends the alert. On a WebSocket, Close sends a close frame if the peer accepts
// one at once, and no message is unfinished.
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
