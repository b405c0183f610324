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
	// testTimeout is how long a test waits for something that must happen. It is no
	// measure of the hub: the machine may be busy with other things.
	testTimeout = 3 * time.Minute

	// pollInterval is how often a condition is looked at.
	pollInterval = 2 * time.Millisecond
)

// childEnv is set in the environment of a child process of a test, to what
// it shall do.
const childEnv = "HUB_TEST_CHILD"

// childMains are what the test binary can do instead of testing.
var childMains = map[string]func() int{}

func TestMain(m *testing.M) {
	if child, ok := childMains[os.Getenv(childEnv)]; ok {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// testHub is a hub that serves a loopback socket.
type testHub struct {
	*hub.Hub
	addr   string
	config hub.Config
	served chan error // what Serve returned

	// credentials is how the project's own client comes in.
	credentials client.Options
}

// start serves a hub until the end of the test, and then holds it to what is
// true of every hub: it ends, nothing is left in it, and its books balance.
func start(t testing.TB, config hub.Config) *testHub {
	t.Helper()
	return startOn(t, withLongTimeouts(config), listen(t))
}

// withLongTimeouts has a hub in real time give up nobody because the machine is busy: what config leaves
// out is longer than any test lasts.
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

// serveOn serves a hub that was made with that configuration.
func serveOn(t testing.TB, h *hub.Hub, config hub.Config, ln net.Listener) *testHub {
	t.Helper()
	server := &testHub{Hub: h, addr: ln.Addr().String(), config: config, served: make(chan error, 1)}
	go func() { server.served <- h.Serve(context.WithoutCancel(t.Context()), ln) }() // ends with Shutdown; the cleanup waits
	t.Cleanup(func() { server.finish(t) })
	return server
}

// finish shuts the hub down and checks what it leaves behind.
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

// checkEnd looks for what a hub that has ended must not hold any more.
func (h *testHub) checkEnd(t testing.TB) {
	t.Helper()
	stats := h.Stats()
	if stats.QueuedBytes != 0 || stats.Clients != 0 {
		t.Errorf("after the end: %d bytes queued, %d clients", stats.QueuedBytes, stats.Clients)
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
	if maxQueued += 64 << 10; stats.PeakQueuedBytes > maxQueued { // what cannot wait comes on top: see Config.MaxQueuedBytes
		t.Errorf("peak of %d bytes, %d allowed", stats.PeakQueuedBytes, maxQueued)
	}
}

// eventually waits until the condition holds.
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
			t.Fatalf("still not: %s", condition)
		}
	}
}

// waitDisconnected waits until the hub has counted n clients with this reason.
func (h *testHub) waitDisconnected(t testing.TB, reason hub.CloseReason, n uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d × %q", n, reason), func() bool { return h.Stats().Disconnected[reason] >= n })
}

// clientV1 is a client that speaks the protocol byte by byte, well or badly.
type clientV1 struct {
	net.Conn
	t            testing.TB
	id           uint64
	messagesRead int // how many messages it has read, where the test counts
}

// connectV1 connects and asks for the id, so that the hub is known to have taken it.
func (h *testHub) connectV1(t testing.TB) *clientV1 {
	t.Helper()
	c := h.connect(t)
	c.send(wire.AppendIdentityRequest(nil))
	c.id = c.readIdentity()
	return c
}

// connect connects and says nothing.
func (h *testHub) connect(t testing.TB) *clientV1 {
	t.Helper()
	nc, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClientV1(t, nc)
}

// shrinkReadBuffer makes the peer's receive buffer small, so that little fills it.
func (c *clientV1) shrinkReadBuffer() *clientV1 {
	c.t.Helper()
	if err := c.tcpConn().SetReadBuffer(4 << 10); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// newClientV1 makes a peer of a connection, which is closed at the end of the test.
func newClientV1(t testing.TB, nc net.Conn) *clientV1 {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	return &clientV1{Conn: nc, t: t}
}

// tcpConn returns what carries the connection, below TLS.
func (c *clientV1) tcpConn() *net.TCPConn {
	if secure, ok := c.Conn.(*tls.Conn); ok {
		return secure.NetConn().(*net.TCPConn)
	}
	return c.Conn.(*net.TCPConn)
}

// reset closes the connection so that the hub sees a reset, not an end.
func (c *clientV1) reset() {
	_ = c.tcpConn().SetLinger(0) // fails only on a connection that is gone already
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

// readRelay reads the next frame and returns an error unless it is a delivery of
// body.
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

// mustReadFrame is next for the goroutine of the test.
func (c *clientV1) mustReadFrame() (wire.Type, []byte) {
	c.t.Helper()
	kind, payload, err := c.readFrame()
	if err != nil {
		c.t.Fatal(err)
	}
	return kind, payload
}

// expectRelay is expect for the goroutine of the test.
func (c *clientV1) expectRelay(body []byte) {
	c.t.Helper()
	if err := c.readRelay(body); err != nil {
		c.t.Fatal(err)
	}
}

// readIdentity reads the answer to an identity request.
func (c *clientV1) readIdentity() uint64 {
	c.t.Helper()
	kind, payload := c.mustReadFrame()
	id, err := wire.ParseIdentity(payload)
	if kind != wire.TypeIdentity || err != nil {
		c.t.Fatalf("client %d: got type %d, %v, want an identity", c.id, kind, err)
	}
	return id
}

// requestList asks who else is there.
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

// fence returns when the hub has handled everything that the peer sent so far,
// and fails if it had anything to say to it that the test did not read.
func (c *clientV1) fence() {
	c.t.Helper()
	c.send(wire.AppendIdentityRequest(nil))
	if id := c.readIdentity(); c.id != 0 && id != c.id {
		c.t.Fatalf("client %d is called %d", c.id, id)
	}
}

// hasDataWithin reports whether the answer to an identity request comes in time.
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

// expectEOF fails unless the hub has ended the connection, saying nothing more.
func (c *clientV1) expectEOF() {
	c.t.Helper()
	if n, err := c.readToEnd(); n != 0 || err != nil {
		c.t.Fatalf("client %d: %d bytes more, then %v, want the end", c.id, n, err)
	}
}

// readToEnd reads until the hub ends the connection and returns how much came. A
// reset is an end as well: the hub closes with something unread.
func (c *clientV1) readToEnd() (int64, error) {
	n, err := io.Copy(io.Discard, c.Conn)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		return n, err
	}
	return n, nil
}

// fillQueue sends bodies to a client that does not read, until the hub has not taken
// one for a while: its queue is full then, and so is everything before it.
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

// waitUntilStuck waits until the hub holds something and gets rid of nothing any more. It
// is for tests in which nobody reads.
func (h *testHub) waitUntilStuck(t testing.TB) {
	t.Helper()
	var out uint64
	polls := 0
	eventually(t, "stuck", func() bool {
		stats := h.Stats()
		if polls++; stats.BytesOut != out {
			out, polls = stats.BytesOut, 0
		}
		return polls > 50 && stats.QueuedBytes > 200_000
	})
}

// dialClient connects a client of the project's own, which ends with its connection.
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

// parallel runs f for 0 to n-1 at the same time and reports what they return.
func parallel(t testing.TB, n int, f func(i int) error) {
	t.Helper()
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- f(i) }() // ends with f, for which the loop below waits
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

// background runs f beside the test, which reports at its end what f returned.
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

// patternRows has, for each byte, 256 different ones: copies take a fraction of the time under the race
// detector.
var patternRows = sync.OnceValue(func() [][256]byte {
	r := make([][256]byte, 256)
	for i := range r {
		for k := range r[i] {
			r[i][k] = byte(i) ^ byte(k)
		}
	}
	return r
})

// pattern returns n bytes that tell where in a body one stands, and in which.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 256 {
		copy(b[i:], patternRows()[byte(i>>8)^byte(i>>16)^seed][:])
	}
	return b
}

// numberedBody returns a body of at least 16 bytes that says who sent it, and as
// which of its messages.
func numberedBody(sender uint64, n, size int) []byte {
	b := make([]byte, max(size, 16))
	binary.BigEndian.PutUint64(b, sender)
	binary.BigEndian.PutUint64(b[8:], uint64(n))
	for i := 16; i < len(b); i++ {
		b[i] = byte(n + i)
	}
	return b
}

// errNoFiles is what a system says that has no file descriptor left.
var errNoFiles = os.NewSyscallError("accept4", syscall.EMFILE)
