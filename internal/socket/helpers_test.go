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

	"github.com/gobwas/ws"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/memorypipe"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// testTimeout is the maximum time that a test waits for an event.
const testTimeout = 30 * time.Second

// testTransport connects two ends over a transport of this package.
type testTransport struct {
	name      string
	open      func(t testing.TB) (near, far net.Conn)
	isPipe    bool // each write is one read
	webSocket bool // each write is one message
}

// wireSize returns the number of bytes that a write of n bytes at the far end takes.
func (tr testTransport) wireSize(n int) int64 {
	if tr.webSocket {
		n += ws.HeaderSize(ws.Header{Masked: true, Length: int64(n)})
	}
	return int64(n)
}

var (
	pipe     = testTransport{name: "pipe", open: openPipe, isPipe: true}
	tcp      = testTransport{name: "tcp", open: openTCP}
	overTLS  = testTransport{name: "tls", open: openTLS}
	inMemory = testTransport{name: "memory", open: openMemory}

	overWebSocket   = webSocketOver("ws", tcp)
	secureWebSocket = webSocketOver("wss", overTLS)
	webSocketMemory = webSocketOver("ws memory", inMemory)
	webSocketPipe   = webSocketOver("ws pipe", pipe)

	transports = []testTransport{pipe, inMemory, tcp, overTLS, overWebSocket, secureWebSocket, webSocketMemory, webSocketPipe}
)

// onTransports runs a test over every transport.
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

// openMemory connects two PollableConns.
func openMemory(testing.TB) (near, far net.Conn) { return memorypipe.New() }

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

// openTLS is TLS over TCP, where this package waits for data below TLS.
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

// endWriting ends the write side of c, or closes c if it has no half-close.
func endWriting(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		return
	}
	c.Close()
}

// waitUntil polls for a condition that has no notification.
func waitUntil(t testing.TB, desc string, happened func() bool) {
	t.Helper()
	deadline := time.After(testTimeout)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timeout: %s", desc)
		}
	}
}

// waitFor returns the next value of c, and fails the test if none arrives in time.
func waitFor[T any](t testing.TB, desc string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(testTimeout):
		t.Fatalf("timeout: %s", desc)
		panic("not reached")
	}
}

// used returns the bytes of a budget that are in use.
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

// frame returns a frame of size bytes on the wire, filled with bytes that depend on their
// position and on the size.
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

// parse returns the frames of a stream, by the simplest method, and the error with which its
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

// testFrame is a copy of a frame that Next returned.
type testFrame struct {
	Type    wire.Type
	Payload []byte
	Alone   bool
}

// readNext returns the results of Next.
func readNext(c *Conn) (f Frame, ok bool, err error) {
	ok, err = c.Next(&f)
	return f, ok, err
}

// readAvailable collects the frames of one read.
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

// compareFrames checks that the frames of a stream were read, and that the reading ended with
// the right error.
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
			t.Errorf("frame %d of %d bytes does not own its buffer", i, len(w))
		}
	}
}

// chunks cuts a stream into chunks of n bytes.
func chunks(stream []byte, n int) (parts [][]byte) {
	for len(stream) > n {
		parts = append(parts, stream[:n])
		stream = stream[n:]
	}
	return append(parts, stream)
}

// randomChunks cuts a stream at random places.
func randomChunks(stream []byte, maxLen int, random *rand.Rand) (parts [][]byte) {
	for len(stream) > 0 {
		n := min(1+random.IntN(maxLen), len(stream))
		parts = append(parts, stream[:n])
		stream = stream[n:]
	}
	return parts
}

// writeStream writes the chunks and ends the stream. The returned channel is closed when it is
// done.
func writeStream(far net.Conn, chunks [][]byte) <-chan struct{} {
	done := make(chan struct{})
	go func() { // ends when all is written, or when the connection is closed
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

// testHandler owns a connection and has an account. It ignores all events.
type testHandler struct {
	account *body.Account
	done    <-chan struct{} // nil: the wait for memory has no end
}

func (p testHandler) Account() *body.Account { return p.account }
func (p testHandler) Done() <-chan struct{}  { return p.done }
func (testHandler) OnWritten(outbox.Counts)  {}
func (testHandler) OnLost(outbox.Counts)     {}
func (testHandler) OnWriteError(error)       {}

// nopHandler owns a connection without an account.
type nopHandler struct{ testHandler }
