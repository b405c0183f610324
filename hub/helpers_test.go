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
	// patience is how long a test waits for something that must happen. It is no
	// measure of the hub: the machine may be busy with other things.
	patience = 3 * time.Minute

	// glance is how often a condition is looked at.
	glance = 2 * time.Millisecond
)

// childVariable is set in the environment of a child process of a test, to what
// it shall do.
const childVariable = "HUB_TEST_CHILD"

// children are what the test binary can do instead of testing.
var children = map[string]func() int{}

func TestMain(m *testing.M) {
	if child, ok := children[os.Getenv(childVariable)]; ok {
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
	return startOn(t, unhurried(config), listen(t))
}

// unhurried has a hub in real time give up nobody because the machine is busy: what config leaves
// out is longer than any test lasts.
func unhurried(config hub.Config) hub.Config {
	for _, limit := range []*time.Duration{
		&config.StallTimeout, &config.FrameTimeout, &config.HandshakeTimeout, &config.KeepAlive, &config.ReportTimeout,
	} {
		if *limit == 0 {
			*limit = patience
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
	s := &testHub{Hub: h, addr: ln.Addr().String(), config: config, served: make(chan error, 1)}
	go func() { s.served <- h.Serve(context.WithoutCancel(t.Context()), ln) }() // ends with Shutdown; the cleanup waits
	t.Cleanup(func() { s.finish(t) })
	return s
}

// finish shuts the hub down and checks what it leaves behind.
func (s *testHub) finish(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	select {
	case err := <-s.served:
		if !errors.Is(err, hub.ErrClosed) {
			t.Errorf("Serve returned %v, want %v", err, hub.ErrClosed)
		}
	case <-ctx.Done():
		t.Error("Serve did not return after Shutdown")
	}
	s.checkEnd(t)
}

// checkEnd looks for what a hub that has ended must not hold any more.
func (s *testHub) checkEnd(t testing.TB) {
	t.Helper()
	stats := s.Stats()
	if stats.QueuedBytes != 0 || stats.Clients != 0 {
		t.Errorf("after the end: %d bytes queued, %d clients", stats.QueuedBytes, stats.Clients)
	}
	var gone uint64
	for _, n := range stats.Disconnected {
		gone += n
	}
	if gone != stats.Connected {
		t.Errorf("%d connected, %d disconnected: %v", stats.Connected, gone, stats.Disconnected)
	}
	most := s.config.MaxQueuedBytes
	if most == 0 {
		most = hub.DefaultMaxQueuedBytes
	}
	if most += 64 << 10; stats.PeakQueuedBytes > most { // what cannot wait comes on top: see Config.MaxQueuedBytes
		t.Errorf("peak of %d bytes, %d allowed", stats.PeakQueuedBytes, most)
	}
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still not: %s", what)
		}
	}
}

// disconnected waits until the hub has counted n clients with this reason.
func (s *testHub) disconnected(t testing.TB, reason hub.Reason, n uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d × %q", n, reason), func() bool { return s.Stats().Disconnected[reason] >= n })
}

// peer is a client that speaks the protocol byte by byte, well or badly.
type peer struct {
	net.Conn
	t     testing.TB
	id    uint64
	heard int // how many messages it has read, where the test counts
}

// peer connects and asks for the id, so that the hub is known to have taken it.
func (s *testHub) peer(t testing.TB) *peer {
	t.Helper()
	p := s.silent(t)
	p.send(wire.AppendIdentityRequest(nil))
	p.id = p.identity()
	return p
}

// silent connects and says nothing.
func (s *testHub) silent(t testing.TB) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	return adopt(t, nc)
}

// small makes the peer's receive buffer small, so that little fills it.
func (p *peer) small() *peer {
	p.t.Helper()
	if err := p.tcp().SetReadBuffer(4 << 10); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// adopt makes a peer of a connection, which is closed at the end of the test.
func adopt(t testing.TB, nc net.Conn) *peer {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &peer{Conn: nc, t: t}
}

// tcp returns what carries the connection, below TLS.
func (p *peer) tcp() *net.TCPConn {
	if secure, ok := p.Conn.(*tls.Conn); ok {
		return secure.NetConn().(*net.TCPConn)
	}
	return p.Conn.(*net.TCPConn)
}

// reset closes the connection so that the hub sees a reset, not an end.
func (p *peer) reset() {
	_ = p.tcp().SetLinger(0) // fails only on a connection that is gone already
	p.tcp().Close()
}

// send writes all of b.
func (p *peer) send(b []byte) {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Fatalf("client %d: write: %v", p.id, err)
	}
}

// relay sends a body to the given clients.
func (p *peer) relay(body []byte, to ...uint64) {
	p.t.Helper()
	p.send(wire.AppendRelay(nil, to, body))
}

// next reads the next frame.
func (p *peer) next() (wire.Type, []byte, error) {
	var header [wire.HeaderSize]byte
	if _, err := io.ReadFull(p, header[:]); err != nil {
		return 0, nil, fmt.Errorf("client %d: read a header: %w", p.id, err)
	}
	payload := make([]byte, binary.BigEndian.Uint32(header[:])-1)
	if _, err := io.ReadFull(p, payload); err != nil {
		return 0, nil, fmt.Errorf("client %d: read a payload: %w", p.id, err)
	}
	return wire.Type(header[wire.LengthSize]), payload, nil
}

// expect reads the next frame and returns an error unless it is a delivery of
// body.
func (p *peer) expect(body []byte) error {
	kind, got, err := p.next()
	if err != nil {
		return err
	}
	if kind != wire.TypeRelay || !bytes.Equal(got, body) {
		return fmt.Errorf("client %d: got type %d, %d bytes %.40x, want %d bytes %.40x", p.id, kind, len(got), got, len(body), body)
	}
	return nil
}

// frame is next for the goroutine of the test.
func (p *peer) frame() (wire.Type, []byte) {
	p.t.Helper()
	kind, payload, err := p.next()
	if err != nil {
		p.t.Fatal(err)
	}
	return kind, payload
}

// hears is expect for the goroutine of the test.
func (p *peer) hears(body []byte) {
	p.t.Helper()
	if err := p.expect(body); err != nil {
		p.t.Fatal(err)
	}
}

// identity reads the answer to an identity request.
func (p *peer) identity() uint64 {
	p.t.Helper()
	kind, payload := p.frame()
	id, err := wire.ParseIdentity(payload)
	if kind != wire.TypeIdentity || err != nil {
		p.t.Fatalf("client %d: got type %d, %v, want an identity", p.id, kind, err)
	}
	return id
}

// list asks who else is there.
func (p *peer) list() []uint64 {
	p.t.Helper()
	p.send(wire.AppendListRequest(nil))
	kind, payload := p.frame()
	ids, err := wire.ParseList(payload)
	if kind != wire.TypeList || err != nil {
		p.t.Fatalf("client %d: got type %d, %v, want a list", p.id, kind, err)
	}
	return ids.AppendTo(nil)
}

// fence returns when the hub has handled everything that the peer sent so far,
// and fails if it had anything to say to it that the test did not read.
func (p *peer) fence() {
	p.t.Helper()
	p.send(wire.AppendIdentityRequest(nil))
	if id := p.identity(); p.id != 0 && id != p.id {
		p.t.Fatalf("client %d is called %d", p.id, id)
	}
}

// answersWithin reports whether the answer to an identity request comes in time.
func (p *peer) answersWithin(d time.Duration) bool {
	p.t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(d)); err != nil {
		p.t.Fatal(err)
	}
	n, err := io.ReadFull(p, make([]byte, wire.IdentityLen))
	if err != nil && (n != 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
		p.t.Fatalf("client %d: read %d bytes, %v", p.id, n, err)
	}
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	return n != 0
}

// closed fails unless the hub has ended the connection, saying nothing more.
func (p *peer) closed() {
	p.t.Helper()
	if n, err := p.rest(); n != 0 || err != nil {
		p.t.Fatalf("client %d: %d bytes more, then %v, want the end", p.id, n, err)
	}
}

// rest reads until the hub ends the connection and returns how much came. A
// reset is an end as well: the hub closes with something unread.
func (p *peer) rest() (int64, error) {
	n, err := io.Copy(io.Discard, p.Conn)
	var broken net.Error
	if errors.As(err, &broken) && broken.Timeout() {
		return n, err
	}
	return n, nil
}

// fill sends bodies to a client that does not read, until the hub has not taken
// one for a while: its queue is full then, and so is everything before it.
func (p *peer) fill(h *testHub, to uint64) {
	p.t.Helper()
	frame := wire.AppendRelay(nil, []uint64{to}, make([]byte, 32<<10))
	for stuck := false; !stuck; {
		if err := p.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			p.t.Fatal(err)
		}
		_, err := p.Write(frame)
		stuck = errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !stuck {
			p.t.Fatal(err)
		}
	}
}

// stuck waits until the hub holds something and gets rid of nothing any more. It
// is for tests in which nobody reads.
func (s *testHub) stuck(t testing.TB) {
	t.Helper()
	var out uint64
	looks := 0
	eventually(t, "stuck", func() bool {
		stats := s.Stats()
		if looks++; stats.BytesOut != out {
			out, looks = stats.BytesOut, 0
		}
		return looks > 50 && stats.QueuedBytes > 200_000
	})
}

// dial connects a client of the project's own, which ends with its connection.
func (s *testHub) dial(t testing.TB) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	options := s.credentials
	options.NoReconnect = true
	c, err := client.Dial(ctx, s.addr, &options)
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

// rows has, for each byte, 256 different ones: copies take a fraction of the time under the race
// detector.
var rows = sync.OnceValue(func() [][256]byte {
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
		copy(b[i:], rows()[byte(i>>8)^byte(i>>16)^seed][:])
	}
	return b
}

// numbered returns a body of at least 16 bytes that says who sent it, and as
// which of its messages.
func numbered(sender uint64, n, size int) []byte {
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
