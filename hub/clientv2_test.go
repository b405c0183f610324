package hub_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// clientV2 is a test client that speaks version 2.
type clientV2 struct {
	*clientV1
	wire.Welcome
	seq           uint64 // of the last SEND
	received      uint64 // reliable frames read
	withholdsAcks bool   // nextFrame does not acknowledge

	supportsSkip bool // HELLO announces SKIP
}

// connectV2 connects and completes the handshake of version 2.
func (h *testHub) connectV2(t testing.TB) *clientV2 {
	t.Helper()
	return h.connectHello(t, wire.Hello{Version: wire.Version2, Name: t.Name()})
}

// connectHello connects, sends hello and reads the WELCOME.
func (h *testHub) connectHello(t testing.TB, hello wire.Hello) *clientV2 {
	t.Helper()
	return handshakeV2(h.connectForV2(t), hello)
}

// handshakeV2 sends hello on c and reads the WELCOME.
func handshakeV2(c *clientV1, hello wire.Hello) *clientV2 {
	c.t.Helper()
	v2 := &clientV2{clientV1: c}
	v2.send(wire.AppendHello(nil, &hello))
	kind, payload := v2.mustReadFrame()
	return v2.applyWelcome(&hello, kind, payload)
}

// applyWelcome parses the reply to a HELLO, which must be a WELCOME, and sets the state of c.
func (c *clientV2) applyWelcome(hello *wire.Hello, kind wire.Type, payload []byte) *clientV2 {
	t := c.t
	t.Helper()
	if kind != wire.TypeWelcome {
		t.Fatalf("the reply to HELLO is a frame of type %#x: %q", kind, payload)
	}
	w, err := wire.ParseWelcome(payload)
	if err != nil {
		t.Fatal(err)
	}
	c.Welcome, c.id, c.seq, c.supportsSkip = w, w.ID, w.Seq, hello.Skip
	if w.Resumed {
		c.received = hello.Received
	}
	return c
}

// resume connects again and asks to resume the session of c.
func (h *testHub) resume(t testing.TB, c *clientV2) *clientV2 {
	t.Helper()
	return h.connectHelloRetry(t, wire.Hello{Version: wire.Version2, ID: c.ID, Resume: c.Resume, Received: c.received, Skip: c.supportsSkip})
}

// connectHelloRetry connects and sends hello. It tries again while the hub replies with GOAWAY
// "busy": on a busy machine the hub has not yet ended the previous connections.
func (h *testHub) connectHelloRetry(t testing.TB, hello wire.Hello) *clientV2 {
	t.Helper()
	for begun := time.Now(); ; {
		c := &clientV2{clientV1: h.connectForV2(t)}
		c.send(wire.AppendHello(nil, &hello))
		kind, payload := c.mustReadFrame()
		if away, err := wire.ParseGoAway(payload); kind == wire.TypeGoAway && err == nil && away.Code == wire.GoAwayBusy && away.Reconnect && time.Since(begun) < testTimeout {
			continue
		}
		return c.applyWelcome(&hello, kind, payload)
	}
}

// sendMessage sends a SEND and returns its seq.
func (c *clientV2) sendMessage(body []byte, options wire.Options, ttl uint32, to ...uint64) uint64 {
	c.t.Helper()
	c.seq++
	c.send(wire.AppendSend(nil, c.seq, options, ttl, to, body))
	return c.seq
}

// nextFrame reads the next frame that is neither PING nor ACK. It counts a reliable frame and
// acknowledges the frame unless withholdsAcks is set.
func (c *clientV2) nextFrame() (wire.Type, []byte) {
	c.t.Helper()
	for {
		kind, payload := c.mustReadFrame()
		switch {
		case kind == wire.TypePing || kind == wire.TypeAck:
			continue
		case kind.IsReliable():
			c.received++
			if !c.withholdsAcks {
				c.send(wire.AppendAck(nil, c.received))
			}
		}
		return kind, payload
	}
}

// expectDeliver reads a DELIVER and checks its sender, seq and body.
func (c *clientV2) expectDeliver(sender, seq uint64, body []byte) wire.Deliver {
	c.t.Helper()
	kind, payload := c.nextFrame()
	d, err := wire.ParseDeliver(payload)
	if kind != wire.TypeDeliver || err != nil {
		c.t.Fatalf("a frame of type %#x, want DELIVER of %d: %v", kind, seq, err)
	}
	if d.Sender != sender || d.Seq != seq || !bytes.Equal(d.Body, body) {
		c.t.Fatalf("DELIVER %d from %d with %d bytes, want %d from %d with %d", d.Seq, d.Sender, len(d.Body), seq, sender, len(body))
	}
	return d
}

// expectReport reads a REPORT and checks its seq and fates.
func (c *clientV2) expectReport(seq uint64, fates ...wire.Fate) {
	c.t.Helper()
	if gotSeq, gotFates := c.readReport(); gotSeq != seq || !equalFates(gotFates, fates) {
		c.t.Fatalf("REPORT of %d: %v, want of %d: %v", gotSeq, gotFates, seq, fates)
	}
}

// expectTwoReports reads the REPORTs of two messages in any order. Each has one receiver,
// whose fate must be FateReceived.
func (c *clientV2) expectTwoReports(a, b uint64) {
	c.t.Helper()
	first, gotFates := c.readReport()
	if first == b {
		a, b = b, a
	}
	if first != a || !equalFates(gotFates, []wire.Fate{wire.FateReceived}) {
		c.t.Fatalf("REPORT of %d: %v, want of %d or %d: received", first, gotFates, a, b)
	}
	c.expectReport(b, wire.FateReceived)
}

// readReport reads a REPORT.
func (c *clientV2) readReport() (seq uint64, fates []wire.Fate) {
	c.t.Helper()
	kind, payload := c.nextFrame()
	r, err := wire.ParseReport(payload)
	if kind != wire.TypeReport || err != nil {
		c.t.Fatalf("a frame of type %#x, want a REPORT: %v", kind, err)
	}
	for _, f := range r.Fates {
		fates = append(fates, wire.Fate(f))
	}
	return r.Seq, fates
}

func equalFates(a, b []wire.Fate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// expectGoAway reads a GOAWAY with this code and then EOF.
func (c *clientV2) expectGoAway(code wire.GoAwayCode) wire.GoAway {
	c.t.Helper()
	kind, payload := c.nextFrame()
	away, err := wire.ParseGoAway(payload)
	if kind != wire.TypeGoAway || err != nil || away.Code != code {
		c.t.Fatalf("a frame of type %#x: %q, want GOAWAY %q: %v", kind, payload, code, err)
	}
	c.expectEOF()
	return away
}

// levelOptions returns options with this level and OverflowBlock.
func levelOptions(level wire.Level) wire.Options { return wire.MakeOptions(level, wire.OverflowBlock) }

// connectToken connects a client whose HELLO has a token.
func (h *testHub) connectToken(t testing.TB, token string) *clientV2 {
	t.Helper()
	return h.connectHello(t, wire.Hello{Version: wire.Version2, Token: token})
}

// connectMaxBody connects a version 2 client that accepts bodies of up to maxBody bytes.
func (h *testHub) connectMaxBody(t testing.TB, maxBody int) *clientV2 {
	t.Helper()
	return h.connectHello(t, wire.Hello{Version: wire.Version2, MaxBody: uint64(maxBody)})
}

// fenceV2 fails if the hub has sent the client a frame that the test has not read.
func (c *clientV2) fenceV2() {
	c.t.Helper()
	c.send(wire.AppendPing(nil, 4711))
	if kind, payload := c.nextFrame(); kind != wire.TypePong {
		c.t.Fatalf("client %d: got frame type %#x with %d bytes, want PONG", c.id, kind, len(payload))
	}
}

// awaitPong returns when the hub has handled every frame that c has sent so far.
func (c *clientV2) awaitPong() {
	c.t.Helper()
	c.send(wire.AppendPing(nil, 77))
	if kind, _ := c.nextFrame(); kind != wire.TypePong {
		c.t.Fatalf("a frame of type %#x, want PONG", kind)
	}
}

// requestPage requests a page of the list with LIST_RANGE.
func (c *clientV2) requestPage(after uint64, limit uint32) []uint64 {
	c.t.Helper()
	c.send(wire.AppendListRange(nil, wire.ListRange{After: after, Limit: limit}))
	kind, payload := c.nextFrame()
	p, err := wire.ParseListPage(payload)
	if kind != wire.TypeListPage || err != nil {
		c.t.Fatalf("a frame of type %#x, want LIST_PAGE: %v", kind, err)
	}
	return p.IDs.AppendTo(nil)
}

// waitUnwritable waits until the hub no longer writes to the other client.
func (c *clientV2) waitUnwritable(other *clientV2) {
	c.t.Helper()
	eventually(c.t, "detached", func() bool {
		seq := c.sendMessage(nil, levelOptions(wire.LevelWritten), 5, other.id)
		_, payload := c.nextFrame()
		r, _ := wire.ParseReport(payload)
		return r.Seq == seq && len(r.Fates) == 1 && wire.Fate(r.Fates[0]) == wire.FateExpired
	})
}
