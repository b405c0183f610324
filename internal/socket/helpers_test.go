package socket

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/wire"
)

// testTimeout is how long a test waits for something that must happen.
const testTimeout = 30 * time.Second

// testTransport is a way to connect two ends: over TCP this package goes around net, over
// a pipe it cannot.
type testTransport struct {
	name string
	open func(t testing.TB) (near, far net.Conn)
}

var (
	pipe       = testTransport{"pipe", openPipe}
	tcp        = testTransport{"tcp", openTCP}
	overTLS    = testTransport{"tls", openTLS}
	transports = []testTransport{pipe, tcp, overTLS}
)

// onTransports runs a test over every link.
func onTransports(t *testing.T, test func(t *testing.T, tr testTransport)) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) { test(t, tr) })
	}
}

func openPipe(t testing.TB) (near, far net.Conn) {
	near, far = net.Pipe()
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}

func openTCP(t testing.TB) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}

// openTLS is TLS over TCP, where this package waits beneath it.
func openTLS(t testing.TB) (near, far net.Conn) {
	t.Helper()
	serverTCP, clientTCP := openTCP(t)
	authority := testcerts.NewAuthority(t)
	server := tls.Server(WrapForTLS(serverTCP), &tls.Config{Certificates: []tls.Certificate{authority.IssueLocal().TLS(t)}})
	client := tls.Client(clientTCP, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"})
	handshakeErr := make(chan error, 1)
	go func() { handshakeErr <- client.Handshake() }() // ends with the handshake
	if err := errors.Join(server.Handshake(), <-handshakeErr); err != nil {
		t.Fatal(err)
	}
	return server, client
}

// endWriting lets the other side see the end, and goes on reading if it can.
func endWriting(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		return
	}
	c.Close()
}

// waitUntil waits for something that the test cannot be told of.
func waitUntil(t testing.TB, desc string, happened func() bool) {
	t.Helper()
	deadline := time.After(testTimeout)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not: %s", desc)
		}
	}
}

// waitFor fails the test when c does not deliver in time.
func waitFor[T any](t testing.TB, desc string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(testTimeout):
		t.Fatalf("still not: %s", desc)
		panic("not reached")
	}
}

// used returns what of a budget is drawn.
func used(b *body.Budget) int64 {
	now, _ := b.Used()
	return now
}

func peak(b *body.Budget) int64 {
	_, n := b.Used()
	return n
}

// testBudget is a budget with the account of one connection.
type testBudget struct {
	*body.Budget
	account *body.Account
}

func newTestBudget(limit int64) testBudget {
	b := body.NewBudget(limit, 0)
	return testBudget{b, b.NewAccount(limit)}
}

// frame returns a frame that takes size bytes on the wire, filled with bytes that
// depend on where they stand, and on the size.
func frame(size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint32(b, uint32(size-wire.LengthSize))
	for i := wire.LengthSize; i < size; i++ {
		b[i] = byte(i*7 + i>>8 + size*13)
	}
	if size > wire.LengthSize {
		b[wire.LengthSize] = byte(wire.TypeRelay)
	}
	return b
}

// parse returns the frames of a stream, by the plainest way there is, and how its
// reading must end.
func parse(stream []byte, maxLength int) (frames [][]byte, err error) {
	for {
		size, err := wire.Size(stream, maxLength)
		switch {
		case err != nil:
			return frames, err
		case len(stream) == 0:
			return frames, io.EOF
		case size == 0 || size > len(stream):
			return frames, io.ErrUnexpectedEOF
		}
		frames = append(frames, stream[:size])
		stream = stream[size:]
	}
}

// testFrame is a frame as Next returned it, in memory of its own.
type testFrame struct {
	Type    wire.Type
	Payload []byte
	Alone   bool
}

// readNext returns what Next says.
func readNext(c *Conn) (f Frame, ok bool, err error) {
	ok, err = c.Next(&f)
	return f, ok, err
}

// readAvailable collects the frames of one turn.
func readAvailable(c *Conn, frames []testFrame) ([]testFrame, error) {
	for {
		f, ok, err := readNext(c)
		if err != nil || !ok {
			return frames, err
		}
		frames = append(frames, testFrame{f.Type, bytes.Clone(f.Payload), f.OwnsBuffer})
	}
}

// collect reads to the end, and calls before ahead of every Fill.
func collect(c *Conn, before func()) (frames []testFrame, err error) {
	defer c.ReleaseAll()
	for {
		before()
		if err := c.Fill(); err != nil {
			return frames, err
		}
		if frames, err = readAvailable(c, frames); err != nil {
			return frames, err
		}
	}
}

// compareFrames looks whether the frames of a stream were read, and whether the end
// came for the right reason.
func compareFrames(t testing.TB, stream []byte, maxLength int, frames []testFrame, err error) {
	t.Helper()
	want, wantErr := parse(stream, maxLength)
	if errors.Is(wantErr, wire.ErrTooLong) {
		wantErr = wire.ErrTooLong
	}
	if !errors.Is(err, wantErr) {
		t.Errorf("ended with %v, want %v", err, wantErr)
	}
	if len(frames) != len(want) {
		t.Fatalf("%d frames, want %d", len(frames), len(want))
	}
	for i, w := range want {
		typ, payload := wire.Split(w)
		if frames[i].Type != typ || !bytes.Equal(frames[i].Payload, payload) {
			t.Fatalf("frame %d (%d bytes) is not what was sent (%d bytes)", i, len(frames[i].Payload), len(payload))
		}
		if len(w) > readSize && !frames[i].Alone {
			t.Errorf("frame %d of %d bytes does not lie alone", i, len(w))
		}
	}
}

// chunks cuts a stream into pieces of n bytes.
func chunks(stream []byte, n int) (parts [][]byte) {
	for len(stream) > n {
		parts = append(parts, stream[:n])
		stream = stream[n:]
	}
	return append(parts, stream)
}

// randomChunks cuts a stream somewhere.
func randomChunks(stream []byte, maxLen int, random *rand.Rand) (parts [][]byte) {
	for len(stream) > 0 {
		n := min(1+random.IntN(maxLen), len(stream))
		parts = append(parts, stream[:n])
		stream = stream[n:]
	}
	return parts
}

// writeStream writes the chunks and ends the stream. It returns what says when it is
// done.
func writeStream(far net.Conn, chunks [][]byte) <-chan struct{} {
	done := make(chan struct{})
	go func() { // ends when all is written, or the connection closed
		defer close(done)
		for _, c := range chunks {
			if _, err := far.Write(c); err != nil {
				return
			}
		}
		endWriting(far)
	}()
	return done
}

// testHandler owns a connection and pays for its bodies. It does not listen.
type testHandler struct {
	account *body.Account
	done    <-chan struct{} // nil: it waits for memory for as long as it takes
}

func (p testHandler) Account() *body.Account { return p.account }
func (p testHandler) Done() <-chan struct{}  { return p.done }
func (testHandler) OnWritten(Counts)         {}
func (testHandler) OnLost(Counts)            {}
func (testHandler) OnWriteError(error)       {}

// nopHandler owns a connection for whose bodies nobody is charged.
type nopHandler struct{ testHandler }
