package hub_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/memorypipe"
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

// testHub is a hub that accepts connections on a loopback listener or in memory.
type testHub struct {
	*hub.Hub
	addr   string
	memory *memorypipe.Listener // nil: the hub listens on addr
	web    *webServer           // not nil: clients of version 2 connect here
	config hub.Config
	served chan error // the result of Serve

	// noDeadlines says that a client of connect can read and write for longer than testTimeout.
	noDeadlines bool

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

// dial returns a new connection to the hub.
func (h *testHub) dial() (net.Conn, error) {
	if h.memory != nil {
		return h.memory.Dial()
	}
	return net.Dial("tcp", h.addr)
}

// dialV2 returns a new connection to the hub for a client of version 2.
func (h *testHub) dialV2() (net.Conn, error) {
	if h.web != nil {
		return h.web.dialWebSocket(nil)
	}
	return h.dial()
}

// serveOn serves h, which was made with config, on ln.
func serveOn(t testing.TB, h *hub.Hub, config hub.Config, ln net.Listener) *testHub {
	t.Helper()
	memory, _ := ln.(*memorypipe.Listener)
	server := &testHub{Hub: h, addr: ln.Addr().String(), memory: memory, config: config, served: make(chan error, 1)}
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
	h.waitServed(ctx, t, h.served)
	if h.web != nil {
		h.waitServed(ctx, t, h.web.served)
	}
	h.checkEnd(t)
}

// waitServed waits for the result of Serve after Shutdown.
func (h *testHub) waitServed(ctx context.Context, t testing.TB, served chan error) {
	t.Helper()
	select {
	case err := <-served:
		if !errors.Is(err, hub.ErrClosed) {
			t.Errorf("Serve returned %v, want %v", err, hub.ErrClosed)
		}
	case <-ctx.Done():
		t.Error("Serve did not return after Shutdown")
	}
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
	options := h.credentials
	options.NoReconnect = true
	c := h.dialWith(t, &options)
	t.Cleanup(func() { c.Close() })
	return c
}

// dialWith connects a client of package client with options.
func (h *testHub) dialWith(t testing.TB, options *client.Options) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	if h.memory != nil || h.web != nil {
		options.Dial = func(context.Context) (net.Conn, error) { return h.dialV2() }
	}
	c, err := client.Dial(ctx, h.addr, options)
	if err != nil {
		t.Fatal(err)
	}
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
	go func() { // ends with f; the cleanup waits
		err := errors.New("a goroutine has failed the test")
		defer func() { done <- err }()
		err = f()
	}()
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
	for i := 16; i < len(b); {
		i += copy(b[i:], countingBytes()[byte(n+i):])
	}
	return b
}

// goroutineCounter returns a function that counts the goroutines of a test: the one that calls
// goroutineCounter, and all that they start from then on, which inherit its label. Unlike
// runtime.NumGoroutine, it counts none of another test.
func goroutineCounter(t testing.TB) (count func() int) {
	pprof.SetGoroutineLabels(pprof.WithLabels(t.Context(), pprof.Labels("test", t.Name())))
	label := fmt.Sprintf("# labels: {%q:%q}", "test", t.Name())
	return func() (n int) {
		var profile bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
			t.Error(err)
		}
		var sameStack int // "N @ addresses" is the line before the labels of N goroutines
		for line := range strings.Lines(profile.String()) {
			if _, err := fmt.Sscanf(line, "%d @", &sameStack); err != nil && strings.TrimSpace(line) == label {
				n += sameStack
			}
		}
		return n
	}
}

// countingBytes holds the values of a byte in ascending order, again and again, to copy them as
// patternRows are copied.
var countingBytes = sync.OnceValue(func() []byte {
	b := make([]byte, 16<<10)
	for i := range b {
		b[i] = byte(i)
	}
	return b
})

// errNoFiles is the error of accept when the process has no file descriptor left.
var errNoFiles = os.NewSyscallError("accept4", syscall.EMFILE)

// clientInfo returns the ClientInfo of a client that must be registered.
func (h *testHub) clientInfo(t testing.TB, id uint64) hub.ClientInfo {
	t.Helper()
	info, ok := h.Client(id)
	if !ok {
		t.Fatalf("client %d is not registered", id)
	}
	return info
}

// waitDetached waits until the hub has noticed that the connection of c is lost.
func (h *testHub) waitDetached(t testing.TB, c *clientV2) {
	t.Helper()
	probe := h.connectV2(t)
	eventually(t, "detached", func() bool {
		seq := probe.sendMessage([]byte("?"), wire.MakeOptions(wire.LevelWritten, wire.OverflowBlock), 5, c.id)
		_, payload := probe.nextFrame()
		r, err := wire.ParseReport(payload)
		return err == nil && r.Seq == seq && wire.Fate(r.Fates[0]) == wire.FateExpired
	})
	probe.send(wire.AppendBye(nil))
	probe.expectEOF()
}

// expectRejectedV1 connects, sends a request of version 1, and expects EOF or a reset.
func (h *testHub) expectRejectedV1(t testing.TB) {
	t.Helper()
	c := h.connect(t)
	_, _ = c.Write(wire.AppendIdentityRequest(nil)) // the hub may have closed the connection already
	if n, err := io.Copy(io.Discard, c); n > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v, want EOF", n, err)
	}
}

// shutdownTimed shuts the hub down and returns how long Shutdown took.
func (h *testHub) shutdownTimed(t testing.TB, timeout time.Duration) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), timeout)
	defer cancel()
	began := time.Now()
	err := h.Shutdown(ctx)
	return time.Since(began), err
}

// tokenAuthenticator returns a Config.Authenticate that accepts the keys of grants as tokens.
func tokenAuthenticator(grants map[string]*hub.Permissions) func(hub.AuthRequest) (*hub.Permissions, error) {
	return func(req hub.AuthRequest) (*hub.Permissions, error) {
		if g, ok := grants[req.Token]; ok {
			return g, nil
		}
		return nil, errors.New("unknown name")
	}
}
