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

// patience is how long a test waits for something that must happen.
const patience = 30 * time.Second

// link is a way to connect two ends: over TCP this package goes around net, over
// a pipe it cannot.
type link struct {
	name string
	open func(t testing.TB) (near, far net.Conn)
}

var (
	pipe   = link{"pipe", openPipe}
	tcp    = link{"tcp", openTCP}
	secure = link{"tls", openTLS}
	links  = []link{pipe, tcp, secure}
)

// onLinks runs a test over every link.
func onLinks(t *testing.T, test func(t *testing.T, l link)) {
	for _, l := range links {
		t.Run(l.name, func(t *testing.T) { test(t, l) })
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
	lower, upper := openTCP(t)
	authority := testcerts.NewAuthority(t)
	server := tls.Server(Line(lower), &tls.Config{Certificates: []tls.Certificate{authority.Local().TLS(t)}})
	client := tls.Client(upper, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }() // ends with the handshake
	if err := errors.Join(server.Handshake(), <-shaken); err != nil {
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

// until waits for something that the test cannot be told of.
func until(t testing.TB, what string, happened func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not: %s", what)
		}
	}
}

// within fails the test when c does not deliver in time.
func within[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("still not: %s", what)
		panic("not reached")
	}
}

// used returns what of a budget is drawn.
func used(b *body.Budget) int64 {
	now, _ := b.Used()
	return now
}

func peak(b *body.Budget) int64 {
	_, most := b.Used()
	return most
}

// purse is a budget with the account of one connection.
type purse struct {
	*body.Budget
	account *body.Account
}

func newPurse(limit int64) purse {
	b := body.NewBudget(limit, 0)
	return purse{b, b.Account(limit)}
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

// got is a frame as Next returned it, in memory of its own.
type got struct {
	Type    wire.Type
	Payload []byte
	Alone   bool
}

// next returns what Next says.
func next(c *Conn) (f Frame, ok bool, err error) {
	ok, err = c.Next(&f)
	return f, ok, err
}

// turn collects the frames of one turn.
func turn(c *Conn, frames []got) ([]got, error) {
	for {
		f, ok, err := next(c)
		if err != nil || !ok {
			return frames, err
		}
		frames = append(frames, got{f.Type, bytes.Clone(f.Payload), f.Alone})
	}
}

// collect reads to the end, and calls before ahead of every Fill.
func collect(c *Conn, before func()) (frames []got, err error) {
	defer c.Drop()
	for {
		before()
		if err := c.Fill(); err != nil {
			return frames, err
		}
		if frames, err = turn(c, frames); err != nil {
			return frames, err
		}
	}
}

// compare looks whether the frames of a stream were read, and whether the end
// came for the right reason.
func compare(t testing.TB, stream []byte, maxLength int, frames []got, err error) {
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
func chunks(stream []byte, n int) (all [][]byte) {
	for len(stream) > n {
		all = append(all, stream[:n])
		stream = stream[n:]
	}
	return append(all, stream)
}

// randomChunks cuts a stream somewhere.
func randomChunks(stream []byte, most int, random *rand.Rand) (all [][]byte) {
	for len(stream) > 0 {
		n := min(1+random.IntN(most), len(stream))
		all = append(all, stream[:n])
		stream = stream[n:]
	}
	return all
}

// feed writes the chunks and ends the stream. It returns what says when it is
// done.
func feed(far net.Conn, chunks [][]byte) <-chan struct{} {
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

// payer owns a connection and pays for its bodies. It does not listen.
type payer struct {
	account *body.Account
	done    <-chan struct{} // nil: it waits for memory for as long as it takes
}

func (p payer) Account() *body.Account { return p.account }
func (p payer) Done() <-chan struct{}  { return p.done }
func (payer) Sent(Tally)               {}
func (payer) Lost(Tally)               {}
func (payer) Failed(error)             {}

// nobody owns a connection for whose bodies nobody is charged.
type nobody struct{ payer }
