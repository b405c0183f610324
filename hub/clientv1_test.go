package hub_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/memorypipe"
	"github.com/sechlol/go-message-hub/wire"
)

// clientV1 is a test client that writes and reads the protocol byte by byte, including
// malformed frames.
type clientV1 struct {
	net.Conn
	t            testing.TB
	id           uint64
	messagesRead int // messages read so far, in tests that count them
}

// connectV1 connects and requests the id, after which the hub has certainly registered the
// connection.
func (h *testHub) connectV1(t testing.TB) *clientV1 {
	t.Helper()
	c := h.connect(t)
	c.send(wire.AppendIdentityRequest(nil))
	c.id = c.readIdentity()
	return c
}

// connect connects and sends nothing.
func (h *testHub) connect(t testing.TB) *clientV1 {
	t.Helper()
	nc, err := h.dial()
	if err != nil {
		t.Fatal(err)
	}
	return h.newClient(t, nc)
}

// connectForV2 is connect for a client of version 2, which speaks WebSocket if the hub has a web
// address.
func (h *testHub) connectForV2(t testing.TB) *clientV1 {
	t.Helper()
	nc, err := h.dialV2()
	if err != nil {
		t.Fatal(err)
	}
	return h.newClient(t, nc)
}

// newClient returns a client on nc, a connection to the hub.
func (h *testHub) newClient(t testing.TB, nc net.Conn) *clientV1 {
	t.Helper()
	if !h.noDeadlines {
		return newClientV1(t, nc)
	}
	t.Cleanup(func() { nc.Close() })
	return &clientV1{Conn: nc, t: t}
}

// newClientV1 returns a client on nc, for testTimeout. The connection is closed at the end of the
// test.
func newClientV1(t testing.TB, nc net.Conn) *clientV1 {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	return &clientV1{Conn: nc, t: t}
}

// shrinkReadBuffer sets the receive buffer of the client to 4 KiB, which few bytes fill.
func (c *clientV1) shrinkReadBuffer() *clientV1 {
	c.t.Helper()
	return c.setReadBuffer(4 << 10)
}

// withoutReadBuffer makes the client accept bytes only while it reads. It is for connections in
// memory: TCP has always a receive buffer.
func (c *clientV1) withoutReadBuffer() *clientV1 {
	c.t.Helper()
	return c.setReadBuffer(0)
}

func (c *clientV1) setReadBuffer(bytes int) *clientV1 {
	c.t.Helper()
	nc := c.Conn
	if upper, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = upper.NetConn()
	}
	if err := nc.(interface{ SetReadBuffer(int) error }).SetReadBuffer(bytes); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// tcpConn returns the TCP connection, which lies below TLS if there is TLS.
func (c *clientV1) tcpConn() *net.TCPConn {
	if upper, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		return upper.NetConn().(*net.TCPConn)
	}
	return c.Conn.(*net.TCPConn)
}

// reset closes the connection with a TCP reset.
func (c *clientV1) reset() {
	if upper, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		resetConn(upper.NetConn())
		return
	}
	resetConn(c.Conn)
}

// resetConn closes nc with a TCP reset.
func resetConn(nc net.Conn) {
	switch nc := nc.(type) {
	case *webSocketStream:
		resetConn(nc.NetConn())
	case *memorypipe.Conn:
		nc.Reset()
	case *net.TCPConn:
		_ = nc.SetLinger(0) // fails only if the connection is closed already
		nc.Close()
	default:
		panic("a connection that cannot be reset")
	}
}

// closeWrite ends the write side of the connection.
func (c *clientV1) closeWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// send writes all of b.
func (c *clientV1) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("client %d: write: %v", c.id, err)
	}
}

// relay sends a body to the given clients.
func (c *clientV1) relay(body []byte, to ...uint64) {
	c.t.Helper()
	c.send(wire.AppendRelay(nil, to, body))
}

// readFrame reads the next frame.
func (c *clientV1) readFrame() (wire.Type, []byte, error) {
	var header [wire.HeaderSize]byte
	if _, err := io.ReadFull(c, header[:]); err != nil {
		return 0, nil, fmt.Errorf("client %d: read a header: %w", c.id, err)
	}
	payload := make([]byte, binary.BigEndian.Uint32(header[:])-1)
	if _, err := io.ReadFull(c, payload); err != nil {
		return 0, nil, fmt.Errorf("client %d: read a payload: %w", c.id, err)
	}
	return wire.Type(header[wire.LengthSize]), payload, nil
}

// readRelay reads the next frame and returns an error unless that frame delivers body.
func (c *clientV1) readRelay(body []byte) error {
	kind, got, err := c.readFrame()
	if err != nil {
		return err
	}
	if kind != wire.TypeRelay || !bytes.Equal(got, body) {
		return fmt.Errorf("client %d: got type %d, %d bytes %.40x, want %d bytes %.40x", c.id, kind, len(got), got, len(body), body)
	}
	return nil
}

// mustReadFrame is readFrame for the goroutine of the test: an error fails the test.
func (c *clientV1) mustReadFrame() (wire.Type, []byte) {
	c.t.Helper()
	kind, payload, err := c.readFrame()
	if err != nil {
		c.t.Fatal(err)
	}
	return kind, payload
}

// expectRelay is readRelay for the goroutine of the test: an error fails the test.
func (c *clientV1) expectRelay(body []byte) {
	c.t.Helper()
	if err := c.readRelay(body); err != nil {
		c.t.Fatal(err)
	}
}

// readIdentity reads the reply to an identity request.
func (c *clientV1) readIdentity() uint64 {
	c.t.Helper()
	kind, payload := c.mustReadFrame()
	id, err := wire.ParseIdentity(payload)
	if kind != wire.TypeIdentity || err != nil {
		c.t.Fatalf("client %d: got type %d, %v, want an identity", c.id, kind, err)
	}
	return id
}

// requestList requests the list and returns the ids of the other clients.
func (c *clientV1) requestList() []uint64 {
	c.t.Helper()
	c.send(wire.AppendListRequest(nil))
	kind, payload := c.mustReadFrame()
	ids, err := wire.ParseList(payload)
	if kind != wire.TypeList || err != nil {
		c.t.Fatalf("client %d: got type %d, %v, want a list", c.id, kind, err)
	}
	return ids.AppendTo(nil)
}

// fence returns when the hub has handled every frame that c has sent so far. It fails if
// another frame arrives before the reply.
func (c *clientV1) fence() {
	c.t.Helper()
	c.send(wire.AppendIdentityRequest(nil))
	if id := c.readIdentity(); c.id != 0 && id != c.id {
		c.t.Fatalf("client %d has id %d", c.id, id)
	}
}

// hasDataWithin reports whether a frame of the length of an identity reply arrives within d.
func (c *clientV1) hasDataWithin(d time.Duration) bool {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		c.t.Fatal(err)
	}
	n, err := io.ReadFull(c, make([]byte, wire.IdentityLen))
	if err != nil && (n != 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
		c.t.Fatalf("client %d: read %d bytes, %v", c.id, n, err)
	}
	if err := c.SetReadDeadline(time.Now().Add(testTimeout)); err != nil {
		c.t.Fatal(err)
	}
	return n != 0
}

// expectEOF fails unless the hub ends the connection without sending another byte.
func (c *clientV1) expectEOF() {
	c.t.Helper()
	if n, err := c.readToEnd(); n != 0 || err != nil {
		c.t.Fatalf("client %d: %d more bytes, then %v, want EOF", c.id, n, err)
	}
}

// readToEnd reads until the hub ends the connection and returns the number of bytes read. A
// reset counts as the end as well: the hub can close while bytes are unread.
func (c *clientV1) readToEnd() (int64, error) {
	n, err := io.Copy(io.Discard, c.Conn)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		return n, err
	}
	return n, nil
}

// fillQueue sends bodies to a client that does not read, until a write has made no progress
// for 100 ms. By then the queue of the receiver is full, and so is every buffer before that
// queue.
func (c *clientV1) fillQueue(h *testHub, to uint64) {
	c.t.Helper()
	frame := wire.AppendRelay(nil, []uint64{to}, make([]byte, 32<<10))
	for blocked := false; !blocked; {
		if err := c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			c.t.Fatal(err)
		}
		_, err := c.Write(frame)
		blocked = errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !blocked {
			c.t.Fatal(err)
		}
	}
}

// requestID requests the id and stores it in c.
func (c *clientV1) requestID() *clientV1 {
	c.t.Helper()
	c.send(wire.AppendIdentityRequest(nil))
	c.id = c.readIdentity()
	return c
}

// fencePromptly requests the id and fails unless the reply arrives without any delay.
func (c *clientV1) fencePromptly() {
	c.t.Helper()
	began := time.Now()
	c.fence()
	if took := time.Since(began); took != 0 {
		c.t.Errorf("client %d: the reply took %v", c.id, took)
	}
}

// sendNumbered sends n numbered messages one after the other.
func (c *clientV1) sendNumbered(to []uint64, n, size int) error {
	for i := range n {
		if _, err := c.Write(wire.AppendRelay(nil, to, numberedBody(c.id, i, size))); err != nil {
			return fmt.Errorf("client %d: message %d: %w", c.id, i, err)
		}
	}
	return nil
}

// readNumbered reads n numbered messages of one sender and checks them.
func (c *clientV1) readNumbered(sender uint64, n, size int) error {
	for i := range n {
		if err := c.readRelay(numberedBody(sender, i, size)); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	return nil
}

// requestsPerNonReader is the number of requests of each client that does not read.
const requestsPerNonReader = 15_000

// connectNonReaders connects n clients that send identity requests, 500 at a time, and do not
// read the replies.
func connectNonReaders(t *testing.T, h *testHub, n int) (clients []*clientV1) {
	for range n {
		c := h.connect(t).withoutReadBuffer()
		background(t, func() error {
			for sent := 0; sent < requestsPerNonReader; sent += 500 {
				if _, err := c.Write(bytes.Repeat(wire.AppendIdentityRequest(nil), 500)); err != nil {
					break // the hub disconnects some of them
				}
			}
			return nil
		})
		t.Cleanup(func() { c.Close() }) // ends the goroutine above
		clients = append(clients, c)
	}
	return clients
}

// fillQueuesOfNonReaders has n clients send 20,000 bytes, times times each, to n others that
// read nothing.
func fillQueuesOfNonReaders(t *testing.T, h *testHub, n, times int) {
	for range n {
		to, from := h.connect(t).withoutReadBuffer().requestID(), h.connect(t)
		background(t, func() error {
			for range times {
				if _, err := from.Write(wire.AppendRelay(nil, []uint64{to.id}, make([]byte, 20_000))); err != nil {
					break // the hub has disconnected the client
				}
			}
			return nil
		})
		t.Cleanup(func() { from.Close() }) // ends the goroutine above
	}
}

// sendRepeatedly sends frame every 10 ms until the connection ends.
func sendRepeatedly(t *testing.T, c *clientV1, frame []byte) {
	background(t, func() error {
		for {
			if _, err := c.Write(frame); err != nil {
				return nil
			}
			<-time.After(10 * time.Millisecond)
		}
	})
	t.Cleanup(func() { c.Close() })
}

// readSlowly reads perSecond bytes once a second until the connection ends.
func readSlowly(t *testing.T, c *clientV1, perSecond int64) {
	background(t, func() error {
		for {
			<-time.After(time.Second)
			if _, err := io.CopyN(io.Discard, c, perSecond); err != nil {
				return nil
			}
		}
	})
	t.Cleanup(func() { c.Close() })
}

// partialFrames returns starts of a relay to this client that end in each part of the frame.
func partialFrames(to uint64) map[string][]byte {
	small := wire.AppendRelay(nil, []uint64{to}, []byte("never"))
	large := wire.AppendRelay(nil, []uint64{to}, make([]byte, wire.DefaultMaxBody))
	return map[string][]byte{
		"length":           small[:2],
		"type":             small[:wire.LengthSize],
		"ids":              small[:wire.HeaderSize+5],
		"body":             small[:len(small)-1],
		"body, announced":  large[:wire.HeaderSize+100],
		"body, a block":    large[:20_000],
		"body, a buffer":   large[:100_000],
		"body, but a byte": large[:len(large)-1],
	}
}
