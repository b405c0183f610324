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

// fuzzMaxBody is the body limit of the hub under test: large enough for frames beyond a read
// buffer, and small enough for the fuzzer to find lengths that the hub refuses.
const fuzzMaxBody = 70_000

// FuzzHub lets the first client of a hub send arbitrary bytes in chunks of any size, over TCP
// or over a pipe. The hub must reply as model predicts, end the connection by itself, and
// still serve two other clients.
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
			return // FuzzClientV2 tests these inputs
		}
		h := startFuzzed(t, tcp)
		size := max(int(chunkSize), len(input)/1000) + 1 // at most 1,000 chunks
		output := sendInChunks(t, h, input, size)
		replies, refused := model(input)
		if !bytes.HasPrefix(replies, output) || !refused && len(output) != len(replies) {
			at := firstDifference(output, replies)
			t.Errorf("the hub sent %d bytes, want %d: from byte %d on %.40x, want %.40x", len(output), len(replies), at, output[at:], replies[at:])
		}
		eventually(t, "the client is disconnected", func() bool { return len(h.Stats().Disconnected) == 1 })
		checkServesOthers(t, h.connect)
	})
}

// FuzzClientV2 lets a client of version 2 send arbitrary bytes after its HELLO. The hub must
// send a WELCOME first and then only frames that a hub may send. The connection must end, and
// the hub must still serve two other clients.
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
		wire.AppendRelay(wire.AppendIdentityRequest(nil), []uint64{1}, []byte("v1")),
		wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, ID: 1, Resume: "x"}),
	} {
		f.Add(input, uint16(3), false)
		f.Add(input, uint16(50_000), true)
	}
	f.Fuzz(func(t *testing.T, input []byte, chunkSize uint16, tcp bool) {
		h := startFuzzed(t, tcp)
		hello := wire.Hello{Version: wire.Version2, MaxBody: uint64(chunkSize % 4)}
		input = append(wire.AppendHello(nil, &hello), input...)
		output := sendInChunks(t, h, input, max(int(chunkSize), len(input)/1000)+1)
		first := true
		for frame := range wire.Frames(output) {
			kind, payload := wire.Split(frame)
			if first != (kind == wire.TypeWelcome) {
				t.Errorf("a frame of type %#x, which is the first: %v", kind, first)
			}
			switch kind {
			case wire.TypeDeliver:
				if n := uint64(len(payload)+wire.HeaderSize) - uint64(wire.DeliverLen(0)); hello.MaxBody > 0 && n > hello.MaxBody {
					t.Errorf("a body of %d bytes, want at most %d", n, hello.MaxBody)
				}
			case wire.TypeHello, wire.TypeSend, wire.TypeVerdict, wire.TypeListRange, wire.TypeWatch, wire.TypeBye:
				t.Errorf("the hub sent a frame of type %#x", kind)
			}
			first = false
		}
		eventually(t, "the client is disconnected", func() bool { return len(h.Stats().Disconnected) == 1 })
		checkServesOthers(t, h.connect)
	})
}

// FuzzResume resumes, with an arbitrary HELLO, the session of a client that has read one of
// its three messages. If the hub resumes the session, it must send as many reliable frames as
// are missing, otherwise none. The hub must still serve two other clients.
func FuzzResume(f *testing.F) {
	for _, read := range []string{`"0"`, `"1"`, `"2"`, `"3"`, `"4"`, `"18446744073709551615"`, `"-1"`, `"x"`, `1`, `null`, `{}`, `"1`} {
		f.Add(read, uint64(1), true, uint16(0), false)
		f.Add(read, uint64(0), true, uint16(1), true)
		f.Add(read, uint64(2), false, uint16(1), false)
	}
	f.Fuzz(func(t *testing.T, read string, received uint64, skip bool, maxBody uint16, tcp bool) {
		h := startFuzzedWith(t, tcp, hub.Config{MaxBody: fuzzMaxBody})
		c := h.connectHello(t, wire.Hello{Version: wire.Version2, Skip: skip})
		c.withholdsAcks = true
		for n := range 3 {
			c.sendMessage(make([]byte, 1+n%2), 0, 0, c.id)
		}
		c.expectDeliver(c.id, 1, []byte{0})
		// A socket that is closed with unread bytes discards bytes that the hub has not read yet.
		eventually(t, "the hub has read all messages", func() bool { return h.Stats().Relays == 3 })
		c.Close()
		hello := fmt.Sprintf(`{"version":2,"id":"%d","resume":%q,"received":"%d","skip":%t,"max_body":%d,"read":%s}`, c.ID, c.Resume, received, skip, maxBody, read)
		back := h.connect(t)
		back.send(makeFrame(wire.TypeHello, hello))
		kind, payload := back.mustReadFrame()
		w, _ := wire.ParseWelcome(payload)
		switch {
		case kind == wire.TypeGoAway:
		case kind != wire.TypeWelcome:
			t.Fatalf("the reply to HELLO is a frame of type %#x: %q", kind, payload)
		default:
			got := (&clientV2{clientV1: back, withholdsAcks: true}).countReliable()
			parsed, _ := wire.ParseHello([]byte(hello))
			missing := uint64(0)
			if w.Resumed {
				missing = 3 - parsed.Received
			}
			// A message that is too large possibly had no number yet.
			tooLarge := missing > 0 && parsed.MaxBody == 1 && got == missing-1
			if got != missing && !tooLarge {
				t.Errorf("%d reliable frames after %s, resumed: %v", got, hello, w.Resumed)
			}
			back.send(wire.AppendBye(nil))
		}
		back.Close()
		a, b := h.connectHello(t, wire.Hello{Version: wire.Version2}), h.connectHello(t, wire.Hello{Version: wire.Version2})
		b.expectDeliver(a.id, a.sendMessage([]byte("x"), 0, 0, b.id), []byte("x"))
		a.send(wire.AppendBye(nil))
		b.send(wire.AppendBye(nil))
		a.Close()
		b.Close()
	})
}

// countReliable returns the number of reliable frames that the hub has sent until now.
func (c *clientV2) countReliable() uint64 {
	c.t.Helper()
	c.send(wire.AppendPing(nil, 1))
	for {
		if kind, _ := c.nextFrame(); kind == wire.TypePong {
			return c.received
		}
	}
}

// checkServesOthers checks that a hub that had one client still serves two others.
func checkServesOthers(t *testing.T, connect func(testing.TB) *clientV1) {
	t.Helper()
	a, b := connect(t), connect(t)
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

// startFuzzed serves a hub over TCP or in memory.
func startFuzzed(t *testing.T, tcp bool) *testHub {
	t.Helper()
	return startFuzzedAuth(t, tcp, nil)
}

// startFuzzedAuth is startFuzzed for a hub with this function Authenticate, which can be nil.
func startFuzzedAuth(t *testing.T, tcp bool, authenticate func(hub.AuthRequest) (*hub.Permissions, error)) *testHub {
	t.Helper()
	return startFuzzedWith(t, tcp, hub.Config{
		MaxBody: fuzzMaxBody, MaxQueuedBytes: 4 << 20, ResumeWindow: time.Millisecond, ReportTimeout: time.Millisecond, MaxReportTimeout: time.Millisecond, Authenticate: authenticate,
	})
}

// startFuzzedWith is startFuzzed for a hub with config.
func startFuzzedWith(t *testing.T, tcp bool, config hub.Config) *testHub {
	t.Helper()
	if tcp {
		return overTCP.start(t, config)
	}
	return inMemory.start(t, config)
}

// sendInChunks sends input in chunks, closes its side of the connection, and returns the bytes
// that the hub sent.
func sendInChunks(t *testing.T, h *testHub, input []byte, chunkSize int) []byte {
	t.Helper()
	c := h.connect(t)
	defer c.Close()
	var output bytes.Buffer
	done := make(chan error, 1)
	go func() { // ends with the connection; sendInChunks waits
		_, err := io.Copy(&output, c)
		done <- err
	}()
	for part := range slices.Chunk(input, chunkSize) {
		if _, err := c.Write(part); err != nil {
			break // the hub has closed the connection
		}
	}
	_ = c.closeWrite() // fails only if the hub has closed the connection
	var netErr net.Error
	if err := <-done; errors.As(err, &netErr) && netErr.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("the hub neither replies nor closes the connection")
	}
	return output.Bytes()
}

// firstDifference returns the index of the first byte in which a and b differ.
func firstDifference(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// model returns the replies of a hub to input from its only client, which has id 1, and
// whether the hub closes the connection because of input.
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
