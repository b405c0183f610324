package hub_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// testTimeout is the time limit for something that must happen. It does not measure the hub:
	// the machine can be busy with other work.
	testTimeout = 3 * time.Minute

	// pollInterval is the time between two checks of a condition.
	pollInterval = 2 * time.Millisecond
)

// childEnv names the environment variable that is set for a child process of a test. Its value
// is a key of childMains.
const childEnv = "HUB_TEST_CHILD"

// childMains maps a name to a function that the test binary runs in a child process instead of
// the tests. The function returns the exit code.
var childMains = map[string]func() int{}

func TestMain(m *testing.M) {
	if child, ok := childMains[os.Getenv(childEnv)]; ok {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// testHub is a hub that accepts connections on a loopback listener.
type testHub struct {
	*hub.Hub
	addr   string
	config hub.Config
	served chan error // the result of Serve

	// credentials are the options with which dialClient connects.
	credentials client.Options
}

// start serves a hub until the end of the test. Then it shuts the hub down and checks what
// must hold for every hub: Shutdown succeeds, no client and no queued byte is left, and the
// counters agree.
func start(t testing.TB, config hub.Config) *testHub {
	t.Helper()
	return startOn(t, withLongTimeouts(config), listen(t))
}

// withLongTimeouts sets each timeout that config leaves out to testTimeout, which is longer
// than any test lasts. A hub in real time then disconnects no client only because the machine
// is busy.
func withLongTimeouts(config hub.Config) hub.Config {
	for _, limit := range []*time.Duration{
		&config.StallTimeout, &config.FrameTimeout, &config.HandshakeTimeout, &config.KeepAlive, &config.ReportTimeout,
	} {
		if *limit == 0 {
			*limit = testTimeout
		}
	}
	return config
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func startOn(t testing.TB, config hub.Config, ln net.Listener) *testHub {
	t.Helper()
	h, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, h, config, ln)
}

// serveOn serves h, which was made with config, on ln.
func serveOn(t testing.TB, h *hub.Hub, config hub.Config, ln net.Listener) *testHub {
	t.Helper()
	server := &testHub{Hub: h, addr: ln.Addr().String(), config: config, served: make(chan error, 1)}
	// The goroutine ends with Shutdown; the cleanup waits for Serve.
	go func() { server.served <- h.Serve(context.WithoutCancel(t.Context()), ln) }()
	t.Cleanup(func() { server.finish(t) })
	return server
}

// finish shuts the hub down and checks what is left in it.
func (h *testHub) finish(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), testTimeout)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	select {
	case err := <-h.served:
		if !errors.Is(err, hub.ErrClosed) {
			t.Errorf("Serve returned %v, want %v", err, hub.ErrClosed)
		}
	case <-ctx.Done():
		t.Error("Serve did not return after Shutdown")
	}
	h.checkEnd(t)
}

// checkEnd fails the test if a hub that was shut down still holds something, or if its
// counters disagree.
func (h *testHub) checkEnd(t testing.TB) {
	t.Helper()
	stats := h.Stats()
	if stats.QueuedBytes != 0 || stats.Clients != 0 {
		t.Errorf("after Shutdown: %d bytes queued, %d clients", stats.QueuedBytes, stats.Clients)
	}
	var disconnected uint64
	for _, n := range stats.Disconnected {
		disconnected += n
	}
	if disconnected != stats.Connected {
		t.Errorf("%d connected, %d disconnected: %v", stats.Connected, disconnected, stats.Disconnected)
	}
	maxQueued := h.config.MaxQueuedBytes
	if maxQueued == 0 {
		maxQueued = hub.DefaultMaxQueuedBytes
	}
	// Frames that cannot wait come on top: see Config.MaxQueuedBytes.
	if maxQueued += 64 << 10; stats.PeakQueuedBytes > maxQueued {
		t.Errorf("peak of %d queued bytes, want at most %d", stats.PeakQueuedBytes, maxQueued)
	}
}

// eventually waits until holds returns true, for at most testTimeout.
func eventually(t testing.TB, condition string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("timed out waiting for: %s", condition)
		}
	}
}

// waitDisconnected waits until the hub has counted n disconnected clients with this reason.
func (h *testHub) waitDisconnected(t testing.TB, reason hub.CloseReason, n uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d × %q", n, reason), func() bool { return h.Stats().Disconnected[reason] >= n })
}

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
	nc, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClientV1(t, nc)
}

// shrinkReadBuffer sets the receive buffer of the client to 4 KiB, which few bytes fill.
func (c *clientV1) shrinkReadBuffer() *clientV1 {
	c.t.Helper()
	if err := c.tcpConn().SetReadBuffer(4 << 10); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// newClientV1 returns a client on nc. The connection is closed at the end of the test.
func newClientV1(t testing.TB, nc net.Conn) *clientV1 {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	return &clientV1{Conn: nc, t: t}
}

// tcpConn returns the TCP connection, which lies below TLS if there is TLS.
func (c *clientV1) tcpConn() *net.TCPConn {
	if secure, ok := c.Conn.(*tls.Conn); ok {
		return secure.NetConn().(*net.TCPConn)
	}
	return c.Conn.(*net.TCPConn)
}

// reset closes the connection with a TCP reset.
func (c *clientV1) reset() {
	_ = c.tcpConn().SetLinger(0) // fails only if the connection is closed already
	c.tcpConn().Close()
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

// waitUntilStuck waits until the hub holds queued bytes and has written nothing for 50 polls.
// It is for tests in which no client reads.
func (h *testHub) waitUntilStuck(t testing.TB) {
	t.Helper()
	var out uint64
	polls := 0
	eventually(t, "no progress", func() bool {
		stats := h.Stats()
		if polls++; stats.BytesOut != out {
			out, polls = stats.BytesOut, 0
		}
		return polls > 50 && stats.QueuedBytes > 200_000
	})
}

// dialClient connects a client of package client, which does not reconnect.
func (h *testHub) dialClient(t testing.TB) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	options := h.credentials
	options.NoReconnect = true
	c, err := client.Dial(ctx, h.addr, &options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// parallel runs f(0) to f(n-1) concurrently and fails the test if one of them returns an
// error.
func parallel(t testing.TB, n int, f func(i int) error) {
	t.Helper()
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- f(i) }() // ends with f; the loop below waits for f
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// background runs f concurrently with the test. The cleanup waits for f and reports the error
// that f returned.
func background(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }() // ends with f; the cleanup waits
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// patternRows holds 256 different rows of 256 bytes. Copying rows takes a fraction of the time
// of computing each byte under the race detector.
var patternRows = sync.OnceValue(func() [][256]byte {
	r := make([][256]byte, 256)
	for i := range r {
		for k := range r[i] {
			r[i][k] = byte(i) ^ byte(k)
		}
	}
	return r
})

// pattern returns n bytes whose values depend on the position and on seed, such that a
// misplaced or foreign byte is detected.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 256 {
		copy(b[i:], patternRows()[byte(i>>8)^byte(i>>16)^seed][:])
	}
	return b
}

// numberedBody returns a body of at least 16 bytes that names its sender and its number n.
func numberedBody(sender uint64, n, size int) []byte {
	b := make([]byte, max(size, 16))
	binary.BigEndian.PutUint64(b, sender)
	binary.BigEndian.PutUint64(b[8:], uint64(n))
	for i := 16; i < len(b); i++ {
		b[i] = byte(n + i)
	}
	return b
}

// errNoFiles is the error of accept when the process has no file descriptor left.
var errNoFiles = os.NewSyscallError("accept4", syscall.EMFILE)
