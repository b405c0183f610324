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

// TestStats_KnownExchange_IsExact compares every counter after a known exchange of frames.
func TestStats_KnownExchange_IsExact(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		a, b := h.connectV1(t), h.connectV1(t)
		const messages, size = 10, 100
		var in, out uint64
		sendCounted := func(c *clientV1, frames []byte, replyLen int) {
			c.send(frames)
			in, out = in+uint64(len(frames)), out+uint64(replyLen)
		}
		in, out = 2*wire.IdentityRequestLen, 2*wire.IdentityLen

		for n := range messages {
			sendCounted(a, wire.AppendRelay(nil, []uint64{b.id, 999, a.id}, pattern(size, byte(n))), 2*wire.RelayDeliveryLen(size))
			a.expectRelay(pattern(size, byte(n)))
			b.expectRelay(pattern(size, byte(n)))
		}
		sendCounted(b, wire.AppendListRequest(nil), wire.ListLen(1))
		b.mustReadFrame()
		sendCounted(a, wire.AppendRelay(nil, nil, []byte("to nobody")), 0)
		// These are an empty frame and two frames of reserved types.
		sendCounted(a, []byte{0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 3, 15, 1, 2}, 0)
		sendCounted(b, []byte{0, 0}, 0)
		b.Close()
		h.waitDisconnected(t, hub.CloseHalfFrame, 1)

		want := hub.Stats{
			Clients: 1, PeakClients: 2, ClusterClients: 1, Connected: 2,
			Rejected: map[hub.RejectReason]uint64{}, Disconnected: map[hub.CloseReason]uint64{hub.CloseHalfFrame: 1},
			MessagesIn: 2 + messages + 1 + 1 + 3, BytesIn: in,
			MessagesOut: 2 + 2*messages + 1, BytesOut: out,
			Relays: messages + 1, NoReceivers: 1, Ignored: 3,
			Delivered: 2 * messages, Dropped: map[hub.DropReason]uint64{hub.DropUnknown: messages}, Fates: map[wire.Fate]uint64{}, Errors: map[wire.ErrorCode]uint64{},
			MaxQueuedBytes: hub.DefaultMaxQueuedBytes,
		}
		// The hub counts these bytes last.
		eventually(t, "counted", func() bool { s := h.Stats(); return s.BytesIn >= in && s.BytesOut >= out })
		got := h.Stats()
		got.Uptime, got.PeakQueuedBytes = 0, 0
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}

// TestStats_PartialFrames_CountBytes checks that the bytes of partial frames are counted.
func TestStats_PartialFrames_CountBytes(t *testing.T) {
	for part, partial := range partialFrames(99) {
		t.Run(part, func(t *testing.T) {
			h := start(t, hub.Config{})
			c := h.connect(t)
			c.send(partial)
			c.Close()
			h.waitDisconnected(t, hub.CloseHalfFrame, 1)
			if got := h.Stats().BytesIn; got != uint64(len(partial)) {
				t.Errorf("%d bytes counted, %d were sent", got, len(partial))
			}
		})
	}
}

// TestStats_EveryDelivery_IsCounted sends to a receiver that reads, a receiver that reads
// nothing and then vanishes, and an unknown receiver. Delivered, gone and unknown must add up
// to the number of receivers, and the reading receiver must get every message that is counted
// as delivered to it.
func TestStats_EveryDelivery_IsCounted(t *testing.T) {
	const messages, size = 300, 20_000
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{StallTimeout: time.Hour})
		bystanders := h.startBystanders(t)
		sender, reader, vanishing := h.connectV1(t), h.connectV1(t), h.connectV1(t)
		bystanders.waitRounds(1)
		bystanders.end()
		var before hub.Stats
		eventually(t, "the bystanders' messages counted", func() bool {
			before = h.Stats()
			return before.Delivered == uint64(2*burstSize*bystanders.rounds.Load())
		})
		background(t, func() error {
			return sender.sendNumbered([]uint64{vanishing.id, reader.id, math.MaxUint64}, messages, size)
		})
		h.waitUntilStuck(t)
		vanishing.reset()
		if err := reader.readNumbered(sender.id, messages, size); err != nil {
			t.Fatal(err)
		}
		sender.fence()
		eventually(t, "every delivery is counted", func() bool {
			s := h.Stats()
			return s.Delivered-before.Delivered+s.Dropped[hub.DropGone]+s.Dropped[hub.DropUnknown] == 3*messages
		})
		s := h.Stats()
		if s.Dropped[hub.DropGone] == 0 || s.Delivered-before.Delivered < messages || s.Dropped[hub.DropUnknown] < messages {
			t.Errorf("delivered %d, gone %d, unknown %d", s.Delivered-before.Delivered, s.Dropped[hub.DropGone], s.Dropped[hub.DropUnknown])
		}
	})
}

// disconnectCauses maps each close reason to a function that causes it.
var disconnectCauses = map[hub.CloseReason]struct {
	config hub.Config
	act    func(t *testing.T, h *testHub)
	web    bool // the hub needs a web address
}{
	hub.CloseLeft:      {act: func(t *testing.T, h *testHub) { h.connectV1(t).Close() }},
	hub.CloseHalfFrame: {act: func(t *testing.T, h *testHub) { p := h.connectV1(t); p.send([]byte{0}); p.Close() }},
	hub.CloseLost:      {act: func(t *testing.T, h *testHub) { h.connectV1(t).reset() }},
	hub.CloseMalformed: {act: func(t *testing.T, h *testHub) { h.connectV1(t).send([]byte{0, 0, 0, 1, 3}) }},
	hub.CloseTooLong:   {act: func(t *testing.T, h *testHub) { h.connectV1(t).send([]byte{255, 255, 255, 255}) }},
	hub.CloseFrameTimeout: {
		config: hub.Config{FrameTimeout: 100 * time.Millisecond},
		act:    func(t *testing.T, h *testHub) { h.connectV1(t).send([]byte{0}) },
	},
	hub.CloseStalled: {
		config: hub.Config{StallTimeout: 500 * time.Millisecond},
		act: func(t *testing.T, h *testHub) {
			p, stalled := h.connectV1(t), h.connectV1(t).shrinkReadBuffer()
			background(t, func() error { return p.sendNumbered([]uint64{stalled.id}, 200, 64<<10) })
		},
	},
	hub.CloseSlow: {
		config: hub.Config{MaxQueuedBytes: 5 << 20, OutboxBytes: 16 << 20, StallTimeout: time.Second},
		act: func(t *testing.T, h *testHub) {
			p, slow := h.connectV1(t), h.connectV1(t).shrinkReadBuffer()
			background(t, func() error { return p.sendNumbered([]uint64{slow.id}, 30, 300_000) })
		},
	},
	hub.CloseShutdown: {act: func(t *testing.T, h *testHub) {
		h.connectV1(t)
		if _, err := h.shutdownTimed(t, testTimeout); err != nil {
			t.Error(err)
		}
	}},
	hub.CloseTimeout: {
		config: hub.Config{KeepAlive: 20 * time.Millisecond, ResumeWindow: time.Millisecond},
		act:    func(t *testing.T, h *testHub) { h.connectV2(t) },
	},
	hub.CloseTakenOver: {act: func(t *testing.T, h *testHub) { h.resume(t, h.connectV2(t)) }},
	hub.CloseVersion: {act: func(t *testing.T, h *testHub) {
		h.connect(t).send(wire.AppendHello(nil, &wire.Hello{Version: 9}))
	}},
	hub.CloseHandshake: {
		config: hub.Config{DisableV1: true, HandshakeTimeout: 20 * time.Millisecond},
		act:    func(t *testing.T, h *testHub) { h.connect(t) },
	},
	hub.CloseRefused: {
		config: hub.Config{DisableV1: true},
		act:    func(t *testing.T, h *testHub) { h.connect(t).send(wire.AppendIdentityRequest(nil)) },
	},
	hub.CloseExpired: {
		config: hub.Config{ResumeWindow: time.Millisecond, Authenticate: func(hub.AuthRequest) (*hub.Permissions, error) {
			return &hub.Permissions{Expires: time.Now().Add(20 * time.Millisecond)}, nil
		}},
		act: func(t *testing.T, h *testHub) { h.connectV2(t) },
	},
	hub.CloseDisconnected: {act: func(t *testing.T, h *testHub) { h.Disconnect(h.connectV2(t).id, false) }},
	hub.CloseWebSocket:    {web: true, act: func(t *testing.T, h *testHub) { h.upgrade(t).send(unmaskedFrame([]byte("x"))) }},
	hub.CloseText:         {web: true, act: func(t *testing.T, h *testHub) { h.upgrade(t).send(maskedFrame(0x81, []byte("x"))) }},
}

// TestStats_EveryCloseReason_IsCountedAndLogged ends a connection for each close reason.
func TestStats_EveryCloseReason_IsCountedAndLogged(t *testing.T) {
	for _, reason := range hub.CloseReasons() {
		t.Run(reason.String(), func(t *testing.T) {
			onAllTransports(t, func(t *testing.T, tr testTransport) {
				cause, ok := disconnectCauses[reason]
				if !ok {
					t.Fatal("no test for this reason")
				}
				if cause.web && !tr.web {
					return // a connection of another kind cannot end for this reason
				}
				log := &logBuffer{}
				cause.config.Logger = log.logger()
				h := tr.start(t, cause.config)
				cause.act(t, h)
				h.waitDisconnected(t, reason, 1)
				log.waitFor(t, fmt.Sprintf(`"reason":%q`, reason))
				if others := slices.Collect(maps.Keys(h.Stats().Disconnected)); len(others) != 1 {
					t.Errorf("other reasons were counted as well: %v", others)
				}
			})
		})
	}
}

// TestStats_ResumedConn_CountsByItsCause loses connections in several ways and resumes each
// session. The old connection is counted by the cause of its loss, not as taken over.
func TestStats_ResumedConn_CountsByItsCause(t *testing.T) {
	partial := []byte{0, 0, 0, 9, byte(wire.TypeAck), 0}
	for reason, cause := range map[hub.CloseReason]struct {
		config hub.Config
		lose   func(c *clientV2)
	}{
		hub.CloseFrameTimeout: {hub.Config{FrameTimeout: 100 * time.Millisecond}, func(c *clientV2) { c.send(partial) }},
		hub.CloseHalfFrame:    {hub.Config{}, func(c *clientV2) { c.send(partial); c.Close() }},
		hub.CloseLeft:         {hub.Config{}, func(c *clientV2) { c.Close() }},
		hub.CloseLost:         {hub.Config{}, func(c *clientV2) { c.reset() }},
		hub.CloseTimeout:      {hub.Config{KeepAlive: 50 * time.Millisecond}, func(*clientV2) {}},
	} {
		t.Run(reason.String(), func(t *testing.T) {
			cause.config.ResumeWindow = time.Hour
			onAllTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, cause.config)
				c := h.connectV2(t)
				cause.lose(c)
				eventually(t, "detached", func() bool { return h.clientInfo(t, c.id).Detached })
				if again := h.resume(t, c); !again.Resumed {
					t.Fatalf("resumed as %+v", again.Welcome)
				}
				h.waitDisconnected(t, reason, 1)
				if n := h.Stats().Disconnected[hub.CloseTakenOver]; n > 0 {
					t.Errorf("%d connections were taken over: %v", n, h.Stats().Disconnected)
				}
			})
		})
	}
}

// TestStats_EveryCounter_Moves changes each field of Stats. It finds the fields by reflection.
func TestStats_EveryCounter_Moves(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		const forbidden = 777
		grant := &hub.Permissions{MessageRate: 100, CanSend: func(id uint64) bool { return id != forbidden }}
		h := tr.startBehind(t, hub.Config{
			MaxClients: 4, StallTimeout: time.Hour,
			Authenticate: func(hub.AuthRequest) (*hub.Permissions, error) { return grant, nil },
			OnTrace:      func(hub.Trace) bool { return false }, TraceSampleRate: 1,
		}, failAccepts(1))
		a, stalled, other := h.connectV1(t), h.connectV1(t), h.connectV1(t)
		other.send([]byte{0, 0, 0, 0})
		other.relay(nil)
		other.relay(nil, 999, forbidden, other.id)
		other.expectRelay(nil)
		other.fence()
		full := h.connectV1(t)
		h.connect(t).expectEOF()
		full.Close()
		background(t, func() error { return a.sendNumbered([]uint64{stalled.id}, 200, 64<<10) })
		h.waitUntilStuck(t)
		during := h.Stats()
		stalled.reset()
		eventually(t, "a message has the fate gone", func() bool { return h.Stats().Dropped[hub.DropGone] > 0 })
		if err := h.SetMaxClients(0); err != nil {
			t.Fatal(err)
		}
		other.send(bytes.Repeat(wire.AppendIdentityRequest(nil), 1000))
		eventually(t, "rate-limited", func() bool { return h.Stats().RateLimited > 0 })
		c := h.connectV2(t)
		c.sendMessage(nil, levelOptions(wire.LevelWritten), 0, 999)
		c.sendMessage(make([]byte, 11), 0, 0, h.connectMaxBody(t, 10).id)
		eventually(t, "too large", func() bool { return h.Stats().Dropped[hub.DropTooLarge] > 0 })
		c.send(wire.AppendWelcome(nil, &wire.Welcome{}))
		c.nextFrame()
		c.nextFrame()
		c.renew("newer")
		h.resume(t, c)
		if tr.web {
			h.upgrade(t)
		}
		after := h.Stats()
		isZero := func(v reflect.Value) bool { return v.IsZero() || v.Kind() == reflect.Map && v.Len() == 0 }
		for i := range reflect.TypeFor[hub.Stats]().NumField() {
			name := reflect.TypeFor[hub.Stats]().Field(i).Name
			if isZero(reflect.ValueOf(during).Field(i)) && isZero(reflect.ValueOf(after).Field(i)) && (tr.web || name != "WebSockets") {
				t.Errorf("%s did not move", name)
			}
		}
		for _, reason := range hub.DropReasons() {
			if after.Dropped[reason] == 0 && reason != hub.DropUnreachable { // a lone hub has no other
				t.Errorf("no body was dropped as %s", reason)
			}
		}
	})
}

// TestStats_WriteTo_Text checks the text that a program prints at its end.
func TestStats_WriteTo_Text(t *testing.T) {
	stats := hub.Stats{
		Uptime: 2 * time.Second, Clients: 3, PeakClients: 12_345, Connected: 20_000, Rejected: map[hub.RejectReason]uint64{hub.RejectFull: 3, hub.RejectRate: 4},
		Disconnected: map[hub.CloseReason]uint64{hub.CloseLeft: 19_000, hub.CloseStalled: 997},
		MessagesIn:   1001, MessagesOut: 99_001, BytesIn: 10 << 20, BytesOut: 3 << 30,
		Relays: 900, NoReceivers: 1, Ignored: 2, Delivered: 98_000, Dropped: map[hub.DropReason]uint64{hub.DropUnknown: 3, hub.DropGone: 4},
		QueuedBytes: 1, PeakQueuedBytes: 5 << 20, AcceptErrors: 6,
	}
	const want = `Uptime:                        2s
Clients Connected:             20,000 (peak 12,345, rejected 7)
Clients Disconnected:          19,997
  left:                        19,000
  stalled:                     997
Incoming Messages:             1,001
Outgoing Messages:             99,001
Bytes Read:                    10,485,760 (10 MB)
Bytes Written:                 3,221,225,472 (3.2 GB)
Relays:                        900 (1 without receivers)
Delivered:                     98,000
Not Delivered:                 7
  unknown receiver:            3
  receiver disconnected:       4
Frames Ignored:                2
Accept Errors:                 6
Incoming Messages per second:  500.5
Outgoing Messages per second:  49,500.5
Bytes Read per second:         5,242,880 (5.2 MB)
Bytes Written per second:      1,610,612,736 (1.6 GB)
Peak Queued Bytes:             5,242,880 (5.0 MiB)
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
