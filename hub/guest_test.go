package hub_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// guest is a peer that speaks version 2.
type guest struct {
	*peer
	wire.Welcome
	seq  uint64 // of its last SEND
	had  uint64 // counted frames that it has read
	mute bool   // it does not say so

	skips bool // it knows SKIP
}

// guest connects and says HELLO.
func (s *testHub) guest(t testing.TB) *guest {
	t.Helper()
	return s.hello(t, wire.Hello{Version: wire.Version2, Name: t.Name()})
}

// hello connects and says this HELLO.
func (s *testHub) hello(t testing.TB, h wire.Hello) *guest {
	t.Helper()
	return greet(s.silent(t), h)
}

// greet says this HELLO, and reads the WELCOME.
func greet(p *peer, h wire.Hello) *guest {
	p.t.Helper()
	g := &guest{peer: p}
	g.send(wire.AppendHello(nil, &h))
	kind, payload := g.frame()
	return g.welcomed(&h, kind, payload)
}

// welcomed takes the answer to a HELLO.
func (g *guest) welcomed(h *wire.Hello, kind wire.Type, payload []byte) *guest {
	t := g.t
	t.Helper()
	if kind != wire.TypeWelcome {
		t.Fatalf("HELLO was answered by a frame of type %#x: %q", kind, payload)
	}
	w, err := wire.ParseWelcome(payload)
	if err != nil {
		t.Fatal(err)
	}
	g.Welcome, g.id, g.seq, g.skips = w, w.ID, w.Seq, h.Skip
	if w.Resumed {
		g.had = h.Received
	}
	return g
}

// back connects again and asks to go on where g was.
func (s *testHub) back(t testing.TB, g *guest) *guest {
	t.Helper()
	return s.insist(t, wire.Hello{Version: wire.Version2, ID: g.ID, Resume: g.Resume, Received: g.had, Skip: g.skips})
}

// insist connects and says this HELLO, again for as long as the hub is busy: on a busy machine it
// has not had the time to end the connections before.
func (s *testHub) insist(t testing.TB, hello wire.Hello) *guest {
	t.Helper()
	for begun := time.Now(); ; {
		g := &guest{peer: s.silent(t)}
		g.send(wire.AppendHello(nil, &hello))
		kind, payload := g.frame()
		if away, err := wire.ParseGoAway(payload); kind == wire.TypeGoAway && err == nil && away.Code == wire.GoAwayBusy && away.Reconnect && time.Since(begun) < patience {
			continue
		}
		return g.welcomed(&hello, kind, payload)
	}
}

// tell sends a message and returns its seq.
func (g *guest) tell(body []byte, options wire.Options, ttl uint32, to ...uint64) uint64 {
	g.t.Helper()
	g.seq++
	g.send(wire.AppendSend(nil, g.seq, options, ttl, to, body))
	return g.seq
}

// read reads the next frame that is no PING, and counts it.
func (g *guest) read() (wire.Type, []byte) {
	g.t.Helper()
	for {
		kind, payload := g.frame()
		switch {
		case kind == wire.TypePing || kind == wire.TypeTaken:
			continue
		case kind.Counted():
			g.had++
			if !g.mute {
				g.send(wire.AppendTaken(nil, g.had))
			}
		}
		return kind, payload
	}
}

// delivered reads a DELIVER and holds it to its sender and body.
func (g *guest) delivered(sender, seq uint64, body []byte) wire.Deliver {
	g.t.Helper()
	kind, payload := g.read()
	d, err := wire.ParseDeliver(payload)
	if kind != wire.TypeDeliver || err != nil {
		g.t.Fatalf("a frame of type %#x, want DELIVER of %d: %v", kind, seq, err)
	}
	if d.Sender != sender || d.Seq != seq || !bytes.Equal(d.Body, body) {
		g.t.Fatalf("DELIVER %d from %d with %d bytes, want %d from %d with %d", d.Seq, d.Sender, len(d.Body), seq, sender, len(body))
	}
	return d
}

// reported reads the REPORT of a message.
func (g *guest) reported(seq uint64, fates ...wire.Fate) {
	g.t.Helper()
	if got, of := g.report(); got != seq || !equal(of, fates) {
		g.t.Fatalf("REPORT of %d: %v, want of %d: %v", got, of, seq, fates)
	}
}

// bothReported reads the REPORTs of two messages, in any order, each for one receiver that has received it.
func (g *guest) bothReported(a, b uint64) {
	g.t.Helper()
	first, of := g.report()
	if first == b {
		a, b = b, a
	}
	if first != a || !equal(of, []wire.Fate{wire.FateReceived}) {
		g.t.Fatalf("REPORT of %d: %v, want of %d or %d: received", first, of, a, b)
	}
	g.reported(b, wire.FateReceived)
}

// report reads a REPORT.
func (g *guest) report() (seq uint64, fates []wire.Fate) {
	g.t.Helper()
	kind, payload := g.read()
	r, err := wire.ParseReport(payload)
	if kind != wire.TypeReport || err != nil {
		g.t.Fatalf("a frame of type %#x, want a REPORT: %v", kind, err)
	}
	for _, f := range r.Fates {
		fates = append(fates, wire.Fate(f))
	}
	return r.Seq, fates
}

func equal(a, b []wire.Fate) bool {
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

// sentAway reads a GOAWAY and then the end.
func (g *guest) sentAway(code wire.GoAwayCode) wire.GoAway {
	g.t.Helper()
	kind, payload := g.read()
	away, err := wire.ParseGoAway(payload)
	if kind != wire.TypeGoAway || err != nil || away.Code != code {
		g.t.Fatalf("a frame of type %#x: %q, want GOAWAY %q: %v", kind, payload, code, err)
	}
	g.closed()
	return away
}

// only asks for options of a level.
func only(level wire.Level) wire.Options { return wire.MakeOptions(level, wire.OverloadWait) }
