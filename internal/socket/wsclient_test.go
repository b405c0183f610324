package socket

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/gobwas/ws"
)

// webSocketClient is the client's side of a WebSocket, by a library. Read returns the payload of
// the hub's messages as a stream, and Write sends one message.
type webSocketClient struct {
	net.Conn

	readMu sync.Mutex

	// Guarded by readMu.
	in     *bufio.Reader
	header []byte // scratch space
	left   int64  // bytes of the current message that were not read

	// onMessage is called with the length of each message of the hub; onPong with each Pong;
	// onClose with the close frame. nil: not called.
	onMessage func(length int64)
	onPong    func(payload []byte)
	onClose   func(status ws.StatusCode)

	mu  sync.Mutex
	out bytes.Buffer // scratch space; guarded by mu
}

func newWebSocketClient(nc net.Conn) *webSocketClient {
	return &webSocketClient{Conn: nc, in: bufio.NewReaderSize(nc, 64<<10), header: make([]byte, ws.MaxHeaderSize)}
}

// Read implements net.Conn. It returns io.EOF after a close frame.
func (c *webSocketClient) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for c.left == 0 {
		if err := c.nextMessage(); err != nil {
			return 0, err
		}
	}
	n, err := c.in.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// nextMessage reads one header, and the rest of a control frame.
func (c *webSocketClient) nextMessage() error {
	h, err := ws.ReadHeaderBuffer(c.in, c.header)
	if err != nil {
		return err
	}
	if err := ws.CheckHeader(h, ws.StateClientSide); err != nil {
		return err
	}
	if h.OpCode.IsControl() {
		return c.readControl(h)
	}
	if h.OpCode != ws.OpBinary || !h.Fin || h.Length == 0 {
		return fmt.Errorf("a message of the hub: %+v", h)
	}
	c.left = h.Length
	if c.onMessage != nil {
		c.onMessage(h.Length)
	}
	return nil
}

func (c *webSocketClient) readControl(h ws.Header) error {
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpPong:
		if c.onPong != nil {
			c.onPong(payload)
		}
		return nil
	case ws.OpClose:
		if c.onClose != nil {
			status := ws.StatusNoStatusRcvd
			if len(payload) >= 2 {
				status = ws.StatusCode(binary.BigEndian.Uint16(payload))
			}
			c.onClose(status)
		}
		return io.EOF
	}
	return fmt.Errorf("a control frame of the hub: %+v", h)
}

// Write implements net.Conn.
func (c *webSocketClient) Write(p []byte) (int, error) {
	if err := c.send(ws.OpBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// send sends one frame, masked, in one write.
func (c *webSocketClient) send(op ws.OpCode, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Reset()
	appendClientFrame(&c.out, ws.Header{Fin: true, OpCode: op, Masked: true, Mask: [4]byte{1, 2, 3, byte(len(p))}}, p)
	_, err := c.Conn.Write(c.out.Bytes())
	return err
}

// CloseWrite sends a close frame and ends the write side. Without a write side it closes the
// connection: a pipe accepts no frame that nobody reads.
func (c *webSocketClient) CloseWrite() error {
	if _, ok := c.Conn.(interface{ CloseWrite() error }); !ok {
		return c.Conn.Close()
	}
	if err := c.send(ws.OpClose, binary.BigEndian.AppendUint16(nil, uint16(ws.StatusNormalClosure))); err != nil {
		return err
	}
	endWriting(c.Conn)
	return nil
}

// headerBuffers has scratch space, so that a frame allocates nothing.
var headerBuffers = sync.Pool{New: func() any { return new([ws.MaxHeaderSize]byte) }}

// appendClientFrame appends a frame with the given header, whose length it sets, and masks p.
func appendClientFrame(b *bytes.Buffer, h ws.Header, p []byte) {
	h.Length = int64(len(p))
	scratch := headerBuffers.Get().(*[ws.MaxHeaderSize]byte)
	defer headerBuffers.Put(scratch)
	if err := ws.WriteHeaderBuffer(b, h, scratch[:]); err != nil {
		panic(err)
	}
	start := b.Len()
	b.Write(p)
	if h.Masked {
		ws.Cipher(b.Bytes()[start:], h.Mask, 0)
	}
}

// clientFrame returns a masked frame.
func clientFrame(op ws.OpCode, fin bool, p []byte) []byte {
	var b bytes.Buffer
	appendClientFrame(&b, ws.Header{Fin: fin, OpCode: op, Masked: true, Mask: [4]byte{0xa1, 0, 0x5c, byte(len(p))}}, p)
	return b.Bytes()
}

// clientStream returns what a client can send for a stream: cut into messages and frames at random
// places, with empty frames and control frames between them.
func clientStream(stream []byte, random *rand.Rand) []byte {
	var b bytes.Buffer
	inMessage := false
	for len(stream) > 0 || inMessage {
		op := ws.OpBinary
		if inMessage {
			op = ws.OpContinuation
		}
		n := min(len(stream), random.IntN(1<<random.IntN(18)))
		inMessage = random.IntN(2) == 0
		b.Write(clientFrame(op, !inMessage, stream[:n]))
		stream = stream[n:]
		switch random.IntN(4) {
		case 0:
			b.Write(clientFrame(ws.OpPing, true, make([]byte, random.IntN(126))))
		case 1:
			b.Write(clientFrame(ws.OpPong, true, make([]byte, random.IntN(126))))
		}
	}
	return b.Bytes()
}

// webSocketOver returns a WebSocket over another transport.
func webSocketOver(name string, inner testTransport) testTransport {
	return testTransport{name: name, isPipe: inner.isPipe, webSocket: true, open: func(t testing.TB) (near, far net.Conn) {
		near, far = inner.open(t)
		return NewWebSocket(near), newWebSocketClient(far)
	}}
}
