package hub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// fuzzMaxBody is the body limit of the hub that is fuzzed: large enough for frames
// beyond a read buffer, small enough that lengths which are refused are found.
const fuzzMaxBody = 70_000

// FuzzHub lets the first client of a hub say arbitrary bytes, in pieces of any
// size, over TCP or in memory. The hub must answer what a few lines of model say
// that it does, end by itself, and serve two others as if nothing had happened.
func FuzzHub(f *testing.F) {
	v := loadVectors(f)
	for _, e := range v.Exchanges {
		for _, step := range e.Steps {
			f.Add([]byte(step.Send), uint16(1), false)
			f.Add([]byte(step.Send), uint16(1000), true)
		}
	}
	for _, vector := range v.Closes {
		f.Add([]byte(vector.Send), uint16(3), true)
	}
	f.Add(bytes.Repeat(wire.AppendRelay(nil, []uint64{1, 2, 1}, make([]byte, 5000)), 40), uint16(9999), true)
	f.Add(wire.AppendRelay(nil, []uint64{1, 1}, make([]byte, fuzzMaxBody)), uint16(50_000), true)
	f.Add(wire.AppendRelay(nil, []uint64{1}, make([]byte, fuzzMaxBody+1)), uint16(5000), false)
	f.Fuzz(func(t *testing.T, input []byte, chunkSize uint16, tcp bool) {
		if len(input) >= wire.HeaderSize && wire.Type(input[wire.LengthSize]) == wire.TypeHello {
			return // FuzzClientV2 is about that
		}
		h, dial := startFuzzed(t, tcp)
		size := max(int(chunkSize), len(input)/1000) + 1 // a thousand of them are enough
		output := sendInChunks(t, dial(), input, size, tcp)
		replies, refused := model(input)
		if whole := tcp && !refused; !bytes.HasPrefix(replies, output) || whole && len(output) != len(replies) {
			at := firstDifference(output, replies)
			t.Errorf("heard %d bytes, want %d: from %d on %.40x, want %.40x", len(output), len(replies), at, output[at:], replies[at:])
		}
		eventually(t, "the client is gone", func() bool { return len(h.Stats().Disconnected) == 1 })
		checkServesOthers(t, dial)
	})
}

// FuzzClientV2 lets a client of version 2 say arbitrary bytes behind its HELLO. What
// it hears must be frames that a hub sends, from a WELCOME on; it must come to an
// end, and two others must be served as if nothing had happened.
func FuzzClientV2(f *testing.F) {
	options := wire.MakeOptions(wire.LevelReceived, wire.OverflowDropOldest)
	for _, input := range [][]byte{
		wire.AppendSend(wire.AppendSend(nil, 1, 0, 0, []uint64{1}, []byte("a")), 2, options, 1, []uint64{1, 2, 1}, make([]byte, 100)),
		wire.AppendSend(nil, 1, options, 0, []uint64{1}, make([]byte, fuzzMaxBody)),
		wire.AppendSend(nil, 1, options.WithReportTimeout(time.Hour), 0, []uint64{1}, nil),
		append(wire.AppendSend(nil, 1, levelOptions(wire.LevelProcessed), 0, []uint64{1}, nil),
			wire.AppendVerdicts(nil, []wire.Verdict{{Sender: 1, Seq: 1, Fate: wire.FateRejected}})...),
		wire.AppendAck(wire.AppendSend(nil, 1, 0, 0, []uint64{1}, nil), 1),
		wire.AppendListRange(wire.AppendWatch(nil, wire.Watch{On: true}), wire.ListRange{}),
		wire.AppendBye(wire.AppendPing(nil, 1)),
		wire.AppendRelay(wire.AppendIdentityRequest(nil), []uint64{1}, []byte("classic")),
		wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, ID: 1, Resume: "x"}),
	} {
		f.Add(input, uint16(3), false)
		f.Add(input, uint16(50_000), true)
	}
	f.Fuzz(func(t *testing.T, input []byte, chunkSize uint16, tcp bool) {
		h, dial := startFuzzed(t, tcp)
		hello := wire.Hello{Version: wire.Version2, MaxBody: uint64(chunkSize % 4)}
		input = append(wire.AppendHello(nil, &hello), input...)
		output := sendInChunks(t, dial(), input, max(int(chunkSize), len(input)/1000)+1, tcp)
		first := true
		for frame := range wire.Frames(output) {
			kind, payload := wire.Split(frame)
			if first != (kind == wire.TypeWelcome) {
				t.Errorf("a frame of type %#x, the first one: %v", kind, first)
			}
			switch kind {
			case wire.TypeDeliver:
				if n := uint64(len(payload)+wire.HeaderSize) - uint64(wire.DeliverLen(0)); hello.MaxBody > 0 && n > hello.MaxBody {
					t.Errorf("a body of %d bytes, and the client takes %d", n, hello.MaxBody)
				}
			case wire.TypeHello, wire.TypeSend, wire.TypeVerdict, wire.TypeListRange, wire.TypeWatch, wire.TypeBye:
				t.Errorf("the hub sent a frame of type %#x", kind)
			}
			first = false
		}
		eventually(t, "the client is gone", func() bool { return len(h.Stats().Disconnected) == 1 })
		checkServesOthers(t, dial)
	})
}

// FuzzResume brings back a client of whose three messages one has come whole, with any HELLO that
// names it. If that resumes it, as many counted frames come as are missing; if not, none. Two
// others must be served as if nothing had happened.
func FuzzResume(f *testing.F) {
	for _, read := range []string{`"0"`, `"1"`, `"2"`, `"3"`, `"4"`, `"18446744073709551615"`, `"-1"`, `"x"`, `1`, `null`, `{}`, `"1`} {
		f.Add(read, uint64(1), true, uint16(0), false)
		f.Add(read, uint64(0), true, uint16(1), true)
		f.Add(read, uint64(2), false, uint16(1), false)
	}
	f.Fuzz(func(t *testing.T, read string, received uint64, skip bool, maxBody uint16, tcp bool) {
		ln := newPipeListener()
		config := hub.Config{MaxBody: fuzzMaxBody}
		dial := func() net.Conn { return ln.dial(t) }
		var h *testHub
		if tcp {
			h = start(t, config)
			dial = func() net.Conn { return h.connect(t).Conn }
		} else {
			h = startOn(t, config, ln)
		}
		c := handshakeV2(newClientV1(t, dial()), wire.Hello{Version: wire.Version2, Skip: skip})
		c.withholdsAcks = true
		for n := range 3 {
			c.sendMessage(make([]byte, 1+n%2), 0, 0, c.id)
		}
		c.expectDeliver(c.id, 1, []byte{0})
		// A socket that is closed with unread bytes takes those along that the hub has not read.
		eventually(t, "the hub has read all messages", func() bool { return h.Stats().Relays == 3 })
		c.Close()
		hello := fmt.Sprintf(`{"version":2,"id":"%d","resume":%q,"received":"%d","skip":%t,"max_body":%d,"read":%s}`, c.ID, c.Resume, received, skip, maxBody, read)
		back := newClientV1(t, dial())
		back.send(makeFrame(wire.TypeHello, hello))
		kind, payload := back.mustReadFrame()
		w, _ := wire.ParseWelcome(payload)
		switch {
		case kind == wire.TypeGoAway:
		case kind != wire.TypeWelcome:
			t.Fatalf("HELLO is answered by a frame of type %#x: %q", kind, payload)
		default:
			got := (&clientV2{clientV1: back, withholdsAcks: true}).countReliable()
			parsed, _ := wire.ParseHello([]byte(hello))
			missing := uint64(0)
			if w.Resumed {
				missing = 3 - parsed.Received
			}
			tooLarge := missing > 0 && parsed.MaxBody == 1 && got == missing-1 // what is too large had perhaps no number yet
			if got != missing && !tooLarge {
				t.Errorf("%d counted frames came to one that says %s, resumed: %v", got, hello, w.Resumed)
			}
			back.send(wire.AppendBye(nil))
		}
		back.Close()
		a, b := handshakeV2(newClientV1(t, dial()), wire.Hello{Version: wire.Version2}), handshakeV2(newClientV1(t, dial()), wire.Hello{Version: wire.Version2})
		b.expectDeliver(a.id, a.sendMessage([]byte("x"), 0, 0, b.id), []byte("x"))
		a.send(wire.AppendBye(nil))
		b.send(wire.AppendBye(nil))
		a.Close()
		b.Close()
	})
}

// countReliable returns how many counted frames have come until now.
func (c *clientV2) countReliable() uint64 {
	c.t.Helper()
	c.send(wire.AppendPing(nil, 1))
	for {
		if kind, _ := c.nextFrame(); kind == wire.TypePong {
			return c.received
		}
	}
}

// checkServesOthers looks whether a hub that had one client still does its work.
func checkServesOthers(t *testing.T, dial func() net.Conn) {
	t.Helper()
	a, b := newClientV1(t, dial()), newClientV1(t, dial())
	a.id, b.id = 2, 3
	a.fence()
	b.fence()
	a.relay([]byte("hello"), b.id)
	b.expectRelay([]byte("hello"))
	if list := a.requestList(); !slices.Equal(list, []uint64{b.id}) {
		t.Errorf("list %v, want only %d", list, b.id)
	}
	a.Close()
	b.Close()
}

// startFuzzed serves a hub and returns how to connect to it.
func startFuzzed(t *testing.T, tcp bool) (*testHub, func() net.Conn) {
	t.Helper()
	return startFuzzedAuth(t, tcp, nil)
}

// startFuzzedAuth does so for a hub that asks who comes in, unless nobody says that.
func startFuzzedAuth(t *testing.T, tcp bool, authenticate func(hub.AuthRequest) (*hub.Permissions, error)) (*testHub, func() net.Conn) {
	t.Helper()
	config := hub.Config{
		MaxBody: fuzzMaxBody, MaxQueuedBytes: 4 << 20, ResumeWindow: time.Millisecond, ReportTimeout: time.Millisecond, MaxReportTimeout: time.Millisecond, Authenticate: authenticate,
	}
	if !tcp {
		ln := newPipeListener()
		return startOn(t, config, ln), func() net.Conn { return ln.dial(t) }
	}
	h := start(t, config)
	return h, func() net.Conn { return h.connect(t).Conn }
}

// sendInChunks sends everything in pieces, ends its side where it can, and returns what
// came back.
func sendInChunks(t *testing.T, nc net.Conn, input []byte, chunkSize int, tcp bool) []byte {
	t.Helper()
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	done := make(chan error, 1)
	go func() { // ends with the connection, for which the function waits
		_, err := io.Copy(&output, nc)
		done <- err
	}()
	for part := range slices.Chunk(input, chunkSize) {
		if _, err := nc.Write(part); err != nil {
			break // the hub has closed
		}
	}
	if tcp {
		_ = nc.(*net.TCPConn).CloseWrite() // fails only when the hub has closed
	} else {
		nc.Close()
	}
	var netErr net.Error
	if err := <-done; errors.As(err, &netErr) && netErr.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("the hub neither answers nor closes")
	}
	return output.Bytes()
}

// firstDifference returns where a and b begin to differ.
func firstDifference(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// model is what the only client of a hub, number 1, hears for what it says, and
// whether the hub closes for it.
func model(input []byte) (replies []byte, refused bool) {
	for {
		size, err := wire.Size(input, wire.MaxRequestLength(fuzzMaxBody))
		if err != nil {
			return replies, true
		}
		if size == 0 || len(input) < size {
			return replies, false
		}
		kind, payload := wire.Split(input[:size])
		input = input[size:]
		switch kind {
		case wire.TypeIdentity:
			replies = wire.AppendIdentity(replies, 1)
		case wire.TypeList:
			replies = wire.AppendList(replies, nil, nil)
		case wire.TypeRelay:
			relay, err := wire.ParseRelay(payload)
			if err != nil || len(relay.Body) > fuzzMaxBody {
				return replies, true
			}
			for id := range relay.To.All() {
				if id == 1 {
					replies = wire.AppendRelayDelivery(replies, relay.Body)
				}
			}
		}
	}
}
