package hub_test

import (
	"context"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSession_DetachedAtMaxReports_Resumes has a client send to itself until MaxReports blocks
// it, and lose its connection.
func TestSession_DetachedAtMaxReports_Resumes(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
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
	onAllTransports(t, func(t *testing.T, tr testTransport) {
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
	onAllTransports(t, func(t *testing.T, tr testTransport) {
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
	const frames = 20 // any that is left takes more memory than the check allows
	onAllTransports(t, func(t *testing.T, tr testTransport) {
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
		for range frames {
			c.sendMessage(body[:1<<19], 0, 0, 999)
		}
		eventually(t, "all relayed", func() bool { return h.Stats().Relays >= 3+frames })
		eventually(t, "the memory of the frames is free", func() bool { return h.Stats().QueuedBytes <= before+(16<<10) })
	})
}

// TestSession_Closing_WritesBeyondWindow has more queued than the window for a client that
// leaves, or at Shutdown. The hub does not wait for ACKs any more and writes every frame.
func TestSession_Closing_WritesBeyondWindow(t *testing.T) {
	t.Run("shutdown, with a sender that waits", func(t *testing.T) {
		onAllTransports(t, func(t *testing.T, tr testTransport) {
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
			onAllTransports(t, func(t *testing.T, tr testTransport) {
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
	onAllTransports(t, func(t *testing.T, tr testTransport) {
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

func TestSession_Takeover_OldConnGetsGoAway(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		sender, first := h.connectV2(t), h.connectV2(t)
		second := h.resume(t, first)
		if !second.Resumed || second.ID != first.ID {
			t.Fatalf("resumed as %+v, want id %d", second.Welcome, first.ID)
		}
		if away := first.expectGoAway(wire.GoAwayTakenOver); away.Reconnect {
			t.Error("the GOAWAY for a takeover asks to reconnect")
		}
		second.expectDeliver(sender.id, sender.sendMessage([]byte("x"), 0, 0, first.id), []byte("x"))
		if ids := sender.requestPage(0, 0); !slices.Equal(ids, []uint64{sender.id, first.ID}) {
			t.Errorf("listed: %v", ids)
		}
	})
}

func TestSession_ForgedSecret_ResumesNothing(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		sender, first := h.connectV2(t), h.connectV2(t)
		for _, secret := range []string{"x", first.Resume + "x", sender.Resume} {
			forged := h.connectHello(t, wire.Hello{Version: wire.Version2, ID: first.ID, Resume: secret})
			if forged.Resumed || forged.ID == first.ID {
				t.Errorf("the secret %q resumed a session: %+v", secret, forged.Welcome)
			}
		}
		first.expectDeliver(sender.id, sender.sendMessage([]byte("x"), 0, 0, first.id), []byte("x"))
	})
}

// TestSession_ConcurrentTakeover_LastConnWins resumes a session on two connections at once.
// The connection that was made last keeps the session, even if the hub reads the other HELLO
// later, because a client abandons a connection before it makes the next.
func TestSession_ConcurrentTakeover_LastConnWins(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		sender := h.connectV2(t)
		for range 20 {
			first := h.connectV2(t)
			var conns [2]*clientV1
			hello := wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, ID: first.ID, Resume: first.Resume})
			for i := range conns {
				conns[i] = h.connect(t)
				if h.memory != nil {
					<-time.After(time.Millisecond) // otherwise both are made at the same time
				}
			}
			for _, c := range conns {
				c.send(hello)
			}
			for i, c := range conns {
				kind, payload := c.mustReadFrame()
				w, err := wire.ParseWelcome(payload)
				switch {
				case kind == wire.TypeWelcome && err == nil && w.Resumed && w.ID == first.ID:
				case kind == wire.TypeGoAway && i == 0 && strings.Contains(string(payload), string(wire.GoAwayTakenOver)):
				default:
					t.Fatalf("connection %d: a frame of type %#x: %s", i, kind, payload)
				}
			}
			last := &clientV2{clientV1: conns[1]}
			last.awaitPong()
			first.expectGoAway(wire.GoAwayTakenOver)
			if ids := sender.requestPage(first.ID-1, 0); !slices.Contains(ids, first.ID) {
				t.Errorf("listed: %v", ids)
			}
		}
	})
}

// TestSession_Resume_EndsMemoryWait resumes a session while its message waits for memory.
func TestSession_Resume_EndsMemoryWait(t *testing.T) {
	withMemoryWaiter(t, func(t *testing.T, w *memoryWaiter) {
		began := time.Now()
		drained := make(chan struct{})
		background(t, func() error { // a client that reads gets the GOAWAY at once
			defer close(drained)
			_, _ = io.Copy(io.Discard, w)
			return nil
		})
		back := w.connectHello(t, wire.Hello{Version: wire.Version2, ID: w.ID, Resume: w.Resume})
		if took := time.Since(began); !back.Resumed || back.Seq != 0 || took > 100*time.Millisecond {
			t.Errorf("resumed after %v as %+v", took, back.Welcome)
		}
		<-drained
	})
}

// TestSession_Resume_IsFastWhenOldConnIsNotRead resumes the session while the client does not
// read from its old connection.
func TestSession_Resume_IsFastWhenOldConnIsNotRead(t *testing.T) {
	withMemoryWaiter(t, func(t *testing.T, w *memoryWaiter) {
		began := time.Now()
		back := w.connectHello(t, wire.Hello{Version: wire.Version2, ID: w.ID, Resume: w.Resume})
		if took := time.Since(began); !back.Resumed || took > 2*time.Second {
			t.Errorf("resumed after %v as %+v", took, back.Welcome)
		}
	})
}

// TestSession_Resume_KeepsIDWhenOldConnIsBusy blocks the old connection for longer than a
// resuming connection waits for it. The hub replies with GOAWAY "busy", and a later attempt
// resumes the session.
func TestSession_Resume_KeepsIDWhenOldConnIsBusy(t *testing.T) {
	onMemoryTransports(t, func(t *testing.T, start startFunc) {
		const busy = 5 * time.Second
		h := start(t, hub.Config{TraceSampleRate: 1, OnTrace: func(hub.Trace) bool { <-time.After(busy); return true }})
		hello := wire.Hello{Version: wire.Version2}
		c := h.connectHello(t, hello)
		c.sendMessage(nil, 0, 0, 999) // to an unknown receiver: OnTrace is called at once
		hello.ID, hello.Resume = c.ID, c.Resume
		began := time.Now()
		early := &clientV2{clientV1: h.connect(t)}
		early.send(wire.AppendHello(nil, &hello))
		if away := early.expectGoAway(wire.GoAwayBusy); !away.Reconnect {
			t.Error("GOAWAY does not ask to reconnect")
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("GOAWAY after %v", took)
		}
		<-time.After(busy)
		if back := h.connectHello(t, hello); !back.Resumed || back.Seq != 1 {
			t.Errorf("resumed as %+v", back.Welcome)
		}
	})
}
