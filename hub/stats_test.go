package hub_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestStatsOfAKnownExchangeAreExact counts every frame and every byte.
func TestStatsOfAKnownExchangeAreExact(t *testing.T) {
	h := start(t, hub.Config{})
	a, b := h.peer(t), h.peer(t)
	const messages, size = 10, 100
	var in, out uint64
	say := func(p *peer, frames []byte, answer int) {
		p.send(frames)
		in, out = in+uint64(len(frames)), out+uint64(answer)
	}
	in, out = 2*wire.IdentityRequestLen, 2*wire.IdentityLen

	for n := range messages {
		say(a, wire.AppendRelay(nil, []uint64{b.id, 999, a.id}, pattern(size, byte(n))), 2*wire.DeliveryLen(size))
		a.hears(pattern(size, byte(n)))
		b.hears(pattern(size, byte(n)))
	}
	say(b, wire.AppendListRequest(nil), wire.ListLen(1))
	b.frame()
	say(a, wire.AppendRelay(nil, nil, []byte("to nobody")), 0)
	say(a, []byte{0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 3, 15, 1, 2}, 0) // empty, and two reserved types
	say(b, []byte{0, 0}, 0)
	b.Close()
	h.disconnected(t, hub.ReasonHalfFrame, 1)

	want := hub.Stats{
		Clients: 1, PeakClients: 2, Connected: 2,
		Refused: map[hub.Refusal]uint64{}, Disconnected: map[hub.Reason]uint64{hub.ReasonHalfFrame: 1},
		MessagesIn: 2 + messages + 1 + 1 + 3, BytesIn: in,
		MessagesOut: 2 + 2*messages + 1, BytesOut: out,
		Relays: messages + 1, NoReceivers: 1, Ignored: 3,
		Delivered: 2 * messages, Unknown: messages, Fates: map[wire.Fate]uint64{}, Errors: map[wire.ErrorCode]uint64{},
		MaxQueuedBytes: hub.DefaultMaxQueuedBytes,
	}
	eventually(t, "counted", func() bool { s := h.Stats(); return s.BytesIn >= in && s.BytesOut >= out }) // they are the last
	got := h.Stats()
	got.Uptime, got.PeakQueuedBytes = 0, 0
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestBytesOfUnfinishedFramesAreCounted as well, whatever part came.
func TestBytesOfUnfinishedFramesAreCounted(t *testing.T) {
	for part, bytes := range halves(99) {
		t.Run(part, func(t *testing.T) {
			h := start(t, hub.Config{})
			p := h.silent(t)
			p.send(bytes)
			p.Close()
			h.disconnected(t, hub.ReasonHalfFrame, 1)
			if got := h.Stats().BytesIn; got != uint64(len(bytes)) {
				t.Errorf("%d bytes counted, %d were sent", got, len(bytes))
			}
		})
	}
}

// TestEveryDeliveryIsAccountedFor sends to one who reads, one who takes nothing
// and then vanishes, and one who never was: delivered, gone and unknown are as many
// as there were receivers, and one who reads has everything that is said to be
// delivered to it.
func TestEveryDeliveryIsAccountedFor(t *testing.T) {
	const messages, size = 300, 20_000
	h := start(t, hub.Config{StallTimeout: time.Hour})
	bystanders := h.bystand(t)
	sender, reads, vanishes := h.peer(t), h.peer(t), h.peer(t)
	bystanders.pass(1)
	bystanders.end()
	var before hub.Stats
	eventually(t, "the bystanders' messages counted", func() bool {
		before = h.Stats()
		return before.Delivered == uint64(2*burst*bystanders.rounds.Load())
	})
	background(t, func() error {
		return sender.stream([]uint64{vanishes.id, reads.id, math.MaxUint64}, messages, size)
	})
	h.stuck(t)
	vanishes.reset()
	if err := reads.follow(sender.id, messages, size); err != nil {
		t.Fatal(err)
	}
	sender.fence()
	eventually(t, "all accounted for", func() bool {
		s := h.Stats()
		return s.Delivered-before.Delivered+s.Gone+s.Unknown == 3*messages
	})
	s := h.Stats()
	if s.Gone == 0 || s.Delivered-before.Delivered < messages || s.Unknown < messages {
		t.Errorf("delivered %d, gone %d, unknown %d", s.Delivered-before.Delivered, s.Gone, s.Unknown)
	}
}

// causes is how to end a connection for each reason.
var causes = map[hub.Reason]struct {
	config hub.Config
	act    func(t *testing.T, h *testHub)
}{
	hub.ReasonLeft:      {act: func(t *testing.T, h *testHub) { h.peer(t).Close() }},
	hub.ReasonHalfFrame: {act: func(t *testing.T, h *testHub) { p := h.peer(t); p.send([]byte{0}); p.Close() }},
	hub.ReasonLost:      {act: func(t *testing.T, h *testHub) { h.peer(t).reset() }},
	hub.ReasonMalformed: {act: func(t *testing.T, h *testHub) { h.peer(t).send([]byte{0, 0, 0, 1, 3}) }},
	hub.ReasonTooLong:   {act: func(t *testing.T, h *testHub) { h.peer(t).send([]byte{255, 255, 255, 255}) }},
	hub.ReasonFrameTimeout: {
		config: hub.Config{FrameTimeout: 100 * time.Millisecond},
		act:    func(t *testing.T, h *testHub) { h.peer(t).send([]byte{0}) },
	},
	hub.ReasonStalled: {
		config: hub.Config{StallTimeout: 500 * time.Millisecond},
		act: func(t *testing.T, h *testHub) {
			p, stalled := h.peer(t), h.peer(t).small()
			background(t, func() error { return p.stream([]uint64{stalled.id}, 200, 64<<10) })
		},
	},
	hub.ReasonSlow: {
		config: hub.Config{MaxQueuedBytes: 5 << 20, OutboxBytes: 16 << 20, StallTimeout: time.Second},
		act: func(t *testing.T, h *testHub) {
			p, slow := h.peer(t), h.peer(t).small()
			background(t, func() error { return p.stream([]uint64{slow.id}, 30, 300_000) })
		},
	},
	hub.ReasonShutdown: {act: func(t *testing.T, h *testHub) {
		h.peer(t)
		if _, err := h.shutdown(t, patience); err != nil {
			t.Error(err)
		}
	}},
	hub.ReasonTimeout: {
		config: hub.Config{KeepAlive: 20 * time.Millisecond, ResumeWindow: time.Millisecond},
		act:    func(t *testing.T, h *testHub) { h.guest(t) },
	},
	hub.ReasonTakenOver: {act: func(t *testing.T, h *testHub) { h.back(t, h.guest(t)) }},
	hub.ReasonVersion: {act: func(t *testing.T, h *testHub) {
		h.silent(t).send(wire.AppendHello(nil, &wire.Hello{Version: 9}))
	}},
	hub.ReasonHandshake: {
		config: hub.Config{NoClassic: true, HandshakeTimeout: 20 * time.Millisecond},
		act:    func(t *testing.T, h *testHub) { h.silent(t) },
	},
	hub.ReasonRefused: {
		config: hub.Config{NoClassic: true},
		act:    func(t *testing.T, h *testHub) { h.silent(t).send(wire.AppendIdentityRequest(nil)) },
	},
	hub.ReasonExpired: {
		config: hub.Config{ResumeWindow: time.Millisecond, Admit: func(hub.Applicant) (*hub.Grant, error) {
			return &hub.Grant{Until: time.Now().Add(20 * time.Millisecond)}, nil
		}},
		act: func(t *testing.T, h *testHub) { h.guest(t) },
	},
	hub.ReasonDisconnected: {act: func(t *testing.T, h *testHub) { h.Disconnect(h.guest(t).id, false) }},
}

// TestEveryReasonIsCountedAndLogged ends a connection for each reason there is.
func TestEveryReasonIsCountedAndLogged(t *testing.T) {
	for _, reason := range hub.Reasons() {
		t.Run(reason.String(), func(t *testing.T) {
			cause, known := causes[reason]
			if !known {
				t.Fatal("no test for this reason")
			}
			log := &logbook{}
			cause.config.Logger = log.logger()
			h := start(t, cause.config)
			cause.act(t, h)
			h.disconnected(t, reason, 1)
			log.has(t, fmt.Sprintf(`"reason":%q`, reason))
			if others := slices.Collect(maps.Keys(h.Stats().Disconnected)); len(others) != 1 {
				t.Errorf("others were counted as well: %v", others)
			}
		})
	}
}

// TestStats_ResumedConnectionCountsByItsCause loses connections in several ways, and resumes each: that has
// another connection going on, but none was taken over.
func TestStats_ResumedConnectionCountsByItsCause(t *testing.T) {
	half := []byte{0, 0, 0, 9, byte(wire.TypeTaken), 0}
	for reason, cause := range map[hub.Reason]struct {
		config hub.Config
		lose   func(g *guest)
	}{
		hub.ReasonFrameTimeout: {hub.Config{FrameTimeout: 100 * time.Millisecond}, func(g *guest) { g.send(half) }},
		hub.ReasonHalfFrame:    {hub.Config{}, func(g *guest) { g.send(half); g.Close() }},
		hub.ReasonLeft:         {hub.Config{}, func(g *guest) { g.Close() }},
		hub.ReasonLost:         {hub.Config{}, func(g *guest) { g.reset() }},
		hub.ReasonTimeout:      {hub.Config{KeepAlive: 50 * time.Millisecond}, func(*guest) {}},
	} {
		t.Run(reason.String(), func(t *testing.T) {
			cause.config.ResumeWindow = time.Hour
			h := start(t, cause.config)
			g := h.guest(t)
			cause.lose(g)
			eventually(t, "detached", func() bool { return h.client(t, g.id).Detached })
			if again := h.back(t, g); !again.Resumed {
				t.Fatalf("came back as %+v", again.Welcome)
			}
			h.disconnected(t, reason, 1)
			if n := h.Stats().Disconnected[hub.ReasonTakenOver]; n > 0 {
				t.Errorf("%d connections were taken over: %v", n, h.Stats().Disconnected)
			}
		})
	}
}

// TestEveryCounterMoves does something for each field of Stats, and finds out by
// itself which fields there are.
func TestEveryCounterMoves(t *testing.T) {
	ln := listen(t)
	const forbidden = 777
	grant := &hub.Grant{MessageRate: 100, May: func(id uint64) bool { return id != forbidden }}
	h := startOn(t, hub.Config{
		MaxClients: 4, StallTimeout: time.Hour,
		Admit: func(hub.Applicant) (*hub.Grant, error) { return grant, nil },
		Trace: func(hub.Trace) bool { return false }, TraceOneIn: 1,
	}, &failing{Listener: ln, failures: 1})
	a, stalled, other := h.peer(t), h.peer(t), h.peer(t)
	other.send([]byte{0, 0, 0, 0})
	other.relay(nil)
	other.relay(nil, 999, forbidden)
	other.fence()
	full := h.peer(t)
	h.silent(t).closed()
	full.Close()
	background(t, func() error { return a.stream([]uint64{stalled.id}, 200, 64<<10) })
	h.stuck(t)
	during := h.Stats()
	stalled.reset()
	eventually(t, "gone", func() bool { return h.Stats().Gone > 0 })
	if err := h.SetMaxClients(0); err != nil {
		t.Fatal(err)
	}
	other.send(bytes.Repeat(wire.AppendIdentityRequest(nil), 1000))
	eventually(t, "paced", func() bool { return h.Stats().Paced > 0 })
	g := h.guest(t)
	g.tell(nil, only(wire.LevelWritten), 0, 999)
	g.tell(make([]byte, 11), 0, 0, h.takesUpTo(t, 10).id)
	eventually(t, "too large", func() bool { return h.Stats().TooLarge > 0 })
	g.send(wire.AppendWelcome(nil, &wire.Welcome{}))
	g.read()
	g.read()
	h.back(t, g)
	after := h.Stats()
	for i := range reflect.TypeFor[hub.Stats]().NumField() {
		if reflect.ValueOf(during).Field(i).IsZero() && reflect.ValueOf(after).Field(i).IsZero() {
			t.Errorf("%s did not move", reflect.TypeFor[hub.Stats]().Field(i).Name)
		}
	}
}

// TestStatsForPeople is what a program prints at its end.
func TestStatsForPeople(t *testing.T) {
	stats := hub.Stats{
		Uptime: 2 * time.Second, Clients: 3, PeakClients: 12_345, Connected: 20_000, Refused: map[hub.Refusal]uint64{hub.RefusedFull: 3, hub.RefusedRate: 4},
		Disconnected: map[hub.Reason]uint64{hub.ReasonLeft: 19_000, hub.ReasonStalled: 997},
		MessagesIn:   1001, MessagesOut: 99_001, BytesIn: 10 << 20, BytesOut: 3 << 30,
		Relays: 900, NoReceivers: 1, Ignored: 2, Delivered: 98_000, Unknown: 3, Gone: 4,
		QueuedBytes: 1, PeakQueuedBytes: 5 << 20, AcceptErrors: 6,
	}
	const want = `Time alive:                    2s
Clients Connected:             20,000 (peak 12,345, refused 7)
Clients Disconnected:          19,997
  left:                        19,000
  stalled:                     997
Incoming Messages:             1,001
Outgoing Messages:             99,001
Bytes Read:                    10,485,760 (10 MB)
Bytes Written:                 3,221,225,472 (3.2 GB)
Relays:                        900 (1 to nobody)
Delivered:                     98,000
Not Delivered:                 7
  no such client:              3
  gone before it was written:  4
Frames Ignored:                2
Accept Errors:                 6
Incoming Messages per second:  500.5
Outgoing Messages per second:  49,500.5
Bytes Read per second:         5,242,880 (5.2 MB)
Bytes Written per second:      1,610,612,736 (1.6 GB)
Peak of Queued Bytes:          5,242,880 (5.0 MiB)
`
	var text strings.Builder
	n, err := stats.WriteTo(&text)
	if err != nil || n != int64(text.Len()) {
		t.Errorf("WriteTo = %d, %v", n, err)
	}
	if text.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &text, want)
	}
}

func TestReasonWithoutAName(t *testing.T) {
	if got, want := hub.Reason(200).String(), "reason 200"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
