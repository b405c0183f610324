package hub_test

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSession_DetachedAtMaxReports_Resumes has a client send to itself until MaxReports blocks
// it, and lose its connection.
func TestSession_DetachedAtMaxReports_Resumes(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxReports: 1, ResumeWindow: time.Minute, ReportTimeout: time.Hour})
		c := h.connectV2(t)
		for range 3 {
			c.sendMessage(nil, levelOptions(wire.LevelProcessed), 0, c.id)
		}
		c.expectDeliver(c.id, 1, nil)
		c.reset()
		back := h.resume(t, c)
		if !back.Resumed || back.Seq != 1 {
			t.Errorf("resumed as %+v", back.Welcome)
		}
		back.sendMessage(nil, levelOptions(wire.LevelProcessed), 0, c.id)
		back.sendMessage(nil, levelOptions(wire.LevelProcessed), 0, c.id)
		// Shutdown does not wait for verdicts.
		if err := h.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// TestSession_AnsweredPing_IsFollowedByAck sends PING while a SEND is blocked. Once the SEND
// is queued, the client gets an ACK, although the SEND costs far less than a quarter of the
// credit. There is one such ACK per PING.
func TestSession_AnsweredPing_IsFollowedByAck(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{OutboxBytes: 4 << 10, ResumeWindow: time.Minute})
		sender, detached := h.connectV2(t), h.connectV2(t)
		detached.reset()
		h.waitDetached(t, detached)
		body := pattern(5000, 1)
		first := sender.sendMessage(body, 0, 0, detached.id)
		blocked := sender.sendMessage(body, 0, 0, detached.id)
		sender.send(wire.AppendPing(nil, 5))
		sender.expectAck(first)
		if kind, _ := sender.mustReadFrame(); kind != wire.TypePong {
			t.Fatalf("a frame of type %#x, want PONG", kind)
		}
		back := h.resume(t, detached)
		back.expectDeliver(sender.id, first, body)
		back.expectDeliver(sender.id, blocked, body)
		sender.expectAck(blocked)
		back.expectDeliver(sender.id, sender.sendMessage(body, 0, 0, back.id), body)
		if sender.hasDataWithin(100 * time.Millisecond) {
			t.Error("got an ACK without a PING")
		}
	})
}

// TestSession_AckThreshold_UsesDefaultReceiverCost sends a quarter of the credit as counted by
// a client that does not know receiver_cost. Such a client can be blocked by then, and must get
// an ACK.
func TestSession_AckThreshold_UsesDefaultReceiverCost(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{Credit: 64 << 10})
		sender, receiver := h.connectV2(t), h.connectV2(t)
		to := slices.Repeat([]uint64{receiver.id}, 100)
		cost := wire.SendCost(len(to), 0, wire.DefaultReceiverCost)
		quarter := (sender.Credit/4 + cost - 1) / cost
		if newer := quarter * wire.SendCost(len(to), 0, sender.ReceiverCost); newer >= sender.Credit/4 {
			t.Fatalf("the hub counts %d bytes, which is a quarter as well", newer)
		}
		var last uint64
		for range quarter {
			last = sender.sendMessage(nil, 0, 0, to...)
		}
		sender.expectAck(last)
	})
}

// expectAck reads an ACK, which must acknowledge upTo.
func (c *clientV2) expectAck(upTo uint64) {
	c.t.Helper()
	kind, payload := c.mustReadFrame()
	if n, err := wire.ParseUint64(payload); kind != wire.TypeAck || n != upTo || err != nil {
		c.t.Fatalf("a frame of type %#x: %d, %v; want ACK %d", kind, n, err, upTo)
	}
}

// TestSession_Detached_HoldsLittleMemory has clients connect, complete the handshake and
// disconnect, one after the other, all within the resume window of the first.
func TestSession_Detached_HoldsLittleMemory(t *testing.T) {
	const visitors = 2000
	h := start(t, hub.Config{})
	bystanders := h.startBystanders(t)
	before := heapAndStackInUse()
	for range visitors {
		c := h.connectV2(t)
		c.reset()
	}
	bystanders.waitRounds(10)
	if each := (int64(heapAndStackInUse()) - int64(before)) / visitors; each > 16<<10 {
		t.Errorf("%d bytes per detached session", each)
	}
}

// heapAndStackInUse returns the number of bytes in use on the heap and the stacks, after a
// collection.
func heapAndStackInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// TestSession_UnwritableConn_OwnFramesAreBounded has a client whose window is full send large
// messages to an unknown receiver. The hub must free their memory although it can write
// nothing to the client.
func TestSession_UnwritableConn_OwnFramesAreBounded(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{StallTimeout: time.Hour, Window: 2 << 20})
		c := h.connectV2(t)
		c.withholdsAcks = true
		body := pattern(1<<20, 1)
		for range 2 {
			c.expectDeliver(c.id, c.sendMessage(body, 0, 0, c.id), body) // the window is full afterwards
		}
		c.sendMessage(body, 0, 0, 999)
		c.send(wire.AppendIdentityRequest(nil))
		eventually(t, "the hub has read five frames", func() bool { return h.Stats().MessagesIn >= 5 })
		before := h.Stats().QueuedBytes
		for range 200 {
			c.sendMessage(body[:1<<19], 0, 0, 999)
		}
		eventually(t, "all relayed", func() bool { return h.Stats().Relays >= 203 })
		eventually(t, "the memory of the frames is free", func() bool { return h.Stats().QueuedBytes <= before+(16<<10) })
	})
}

// TestSession_Closing_WritesBeyondWindow has more queued than the window for a client that
// leaves, or at Shutdown. The hub does not wait for ACKs any more and writes every frame.
func TestSession_Closing_WritesBeyondWindow(t *testing.T) {
	t.Run("shutdown, with a sender that waits", func(t *testing.T) {
		onTransports(t, func(t *testing.T, tr testTransport) {
			h := tr.start(t, hub.Config{OutboxBytes: 4 << 10, StallTimeout: time.Hour, Window: 2 << 20})
			sender, c := h.connectV1(t), h.connectV2(t)
			c.withholdsAcks = true
			body := pattern(1<<20, 1)
			background(t, func() error {
				for range 5 { // two fill the window, one is queued, one is blocked, and one is not read
					sender.send(wire.AppendRelay(nil, []uint64{c.id}, body))
				}
				return nil
			})
			for range 2 {
				c.expectDeliver(sender.id, 0, body)
			}
			eventually(t, "four are read", func() bool { return h.clientInfo(t, sender.id).BytesIn > 4<<20 })
			background(t, func() error { return h.Shutdown(context.WithoutCancel(t.Context())) })
			for range 2 {
				c.expectDeliver(sender.id, 0, body)
			}
			c.expectGoAway(wire.GoAwayShutdown)
		})
	})
	for name, end := range map[string]func(*testing.T, *testHub, *clientV2){
		"bye": func(_ *testing.T, _ *testHub, c *clientV2) { c.send(wire.AppendBye(nil)) },
		"shutdown": func(t *testing.T, h *testHub, _ *clientV2) {
			background(t, func() error { return h.Shutdown(context.WithoutCancel(t.Context())) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{StallTimeout: time.Hour})
				sender, c := h.connectV2(t), h.connectV2(t)
				c.withholdsAcks = true
				body := pattern(1<<20, 1)
				for i := range uint64(3) {
					seq := sender.sendMessage(body, 0, 0, c.id)
					if i < 2 {
						c.expectDeliver(sender.id, seq, body)
					}
				}
				eventually(t, "all are queued", func() bool { return h.Stats().Relays == 3 })
				end(t, h, c)
				c.expectDeliver(sender.id, 3, body)
			})
		})
	}
}

func TestBye_EndsSession(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		sender, receiver := h.connectV2(t), h.connectV2(t)
		receiver.withholdsAcks = true
		seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, receiver.id)
		receiver.expectDeliver(sender.id, seq, []byte("x"))
		receiver.send(wire.AppendBye(nil))
		receiver.expectEOF()
		sender.expectReport(seq, wire.FateUncertain)
		if again := h.resume(t, receiver); again.Resumed {
			t.Error("a session that ended with BYE was resumed")
		}
	})
}
