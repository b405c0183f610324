// Package webclient is the client side of a WebSocket as a stream of bytes, for the programs that
// measure servers. It takes little memory and processor time, because it shares the machine with the
// server, and knows no compression. Each Write is one message; Read returns the payload of all
// messages.
package webclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"

	"github.com/gobwas/ws"
)

// Conn is a WebSocket to a server. One goroutine at a time can call Read. All other methods can be
// called concurrently.
type Conn struct {
	net.Conn // carries the WebSocket frames

	// Owned by Read.
	r    io.Reader
	left int64 // bytes of the payload of the current frame that were not read

	mu  sync.Mutex
	out bytes.Buffer // the frame that is written; guarded by mu
}

// Dial connects to the path of a server at addr, and upgrades with a subprotocol unless that is "".
// bufferSize is the size of the buffer for reading, in bytes. 0 is no buffer, which is for
// connections that are mostly idle.
func Dial(ctx context.Context, addr, path, subprotocol string, bufferSize int) (*Conn, error) {
	var netDialer net.Dialer
	nc, err := netDialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: nc}
	if err := c.upgrade(&url.URL{Scheme: "ws", Host: addr, Path: path}, subprotocol); err != nil {
		nc.Close()
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	if bufferSize > 0 {
		c.r = bufio.NewReaderSize(c.r, bufferSize)
	}
	return c, nil
}

// upgrade makes the connection a WebSocket.
func (c *Conn) upgrade(u *url.URL, subprotocol string) error {
	var dialer ws.Dialer
	if subprotocol != "" {
		dialer.Protocols = []string{subprotocol}
	}
	buffered, handshake, err := dialer.Upgrade(c.Conn, u)
	if err != nil {
		return err
	}
	if handshake.Protocol != subprotocol {
		return fmt.Errorf("the subprotocol is %q, want %q", handshake.Protocol, subprotocol)
	}
	c.r = c.Conn
	if buffered != nil { // the server has sent frames already
		sent, err := buffered.Peek(buffered.Buffered())
		if err != nil {
			return err
		}
		c.r = io.MultiReader(bytes.NewReader(bytes.Clone(sent)), c.Conn)
		ws.PutReader(buffered)
	}
	return nil
}

// Read implements net.Conn. It waits until p is full or the payload of a frame has ended. It answers
// a Ping. A Close frame is the end of the stream.
func (c *Conn) Read(p []byte) (int, error) {
	for c.left == 0 {
		h, err := ws.ReadHeader(c.r)
		if err != nil {
			return 0, err
		}
		switch {
		case h.Masked || h.Rsv != 0:
			return 0, fmt.Errorf("the server sent the header %+v", h)
		case h.OpCode.IsControl():
			err = c.handleControl(h)
		default:
			c.left = h.Length
		}
		if err != nil {
			return 0, err
		}
	}
	n, err := io.ReadFull(c.r, p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// handleControl reads the payload of a control frame, and handles the frame.
func (c *Conn) handleControl(h ws.Header) error {
	if h.Length > ws.MaxControlFramePayloadSize {
		return errors.New("the server sent a control frame that is too long")
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpPing:
		return c.writeFrame(ws.OpPong, payload)
	case ws.OpClose:
		return io.EOF
	}
	return nil
}

// Write implements net.Conn. It writes p as one binary message, and does not keep p.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.writeFrame(ws.OpBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeFrame writes a frame, whose payload it masks in a copy.
func (c *Conn) writeFrame(op ws.OpCode, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := ws.Header{Fin: true, OpCode: op, Masked: true, Length: int64(len(payload))}
	bits := rand.Uint32()
	h.Mask = [4]byte{byte(bits), byte(bits >> 8), byte(bits >> 16), byte(bits >> 24)}
	c.out.Reset()
	if err := ws.WriteHeader(&c.out, h); err != nil {
		return err
	}
	start := c.out.Len()
	c.out.Write(payload)
	ws.Cipher(c.out.Bytes()[start:], h.Mask, 0)
	_, err := c.Conn.Write(c.out.Bytes())
	return err
}
