package hub_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// longKeepAlive is for tests in which clients are silent while one of them reconnects.
var longKeepAlive = hub.Config{KeepAlive: time.Hour}

// reconnectAfter reads n bytes, closes the connection after delay, and resumes the session on
// the connection that connect returns.
func (c *clientV2) reconnectAfter(n int, delay time.Duration, connect func() *clientV1, hello wire.Hello) *clientV2 {
	c.t.Helper()
	c.skip(n)
	<-time.After(delay)
	c.Close()
	return c.reconnect(connect(), hello)
}

// skip reads n bytes.
func (c *clientV2) skip(n int) {
	c.t.Helper()
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		c.t.Fatal(err)
	}
}

// reconnect resumes the session of c on another connection.
func (c *clientV2) reconnect(on *clientV1, hello wire.Hello) *clientV2 {
	c.t.Helper()
	hello.ID, hello.Resume, hello.Received = c.ID, c.Resume, c.received
	back := handshakeV2(on, hello)
	if !back.Resumed {
		c.t.Fatal("not resumed")
	}
	return back
}

// helloWithRead returns a HELLO that says that n reliable frames were read completely.
func helloWithRead(n uint64) wire.Hello {
	return wire.Hello{Version: wire.Version2, Skip: true, Read: &n}
}

// TestResume_RepeatedlyCutMessage_IsGivenUp cuts the connection again and again in the middle
// of a message. After five connections the hub gives the message up, if the receiver says what
// it has read and supports SKIP. The next message is then delivered.
func TestResume_RepeatedlyCutMessage_IsGivenUp(t *testing.T) {
	for _, test := range []struct {
		name    string
		hello   wire.Hello
		bytes   int // of the message, read on each connection
		while   time.Duration
		cuts    int
		givenUp bool
	}{
		{"slow cuts", helloWithRead(0), 400, 3 * time.Second, 5, true},
		{"cut once less", helloWithRead(0), 400, 3 * time.Second, 4, false},
		{"cut immediately", helloWithRead(0), 400, 100 * time.Millisecond, 50, false},
		{"no byte arrives", helloWithRead(0), 0, 3 * time.Second, 10, false},
		{"SKIP not supported", wire.Hello{Version: wire.Version2, Read: new(uint64)}, 400, 3 * time.Second, 10, false},
		{"HELLO without read", wire.Hello{Version: wire.Version2, Skip: true}, 400, 3 * time.Second, 10, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTimeWith(t, longKeepAlive, func(t *testing.T, h *testHub) {
				connect := func() *clientV1 { return h.connect(t).withoutReadBuffer() }
				first := test.hello
				first.Read = nil
				sender, receiver := h.connectV2(t), handshakeV2(connect(), first)
				large := pattern(1000, 1)
				stuck := sender.sendMessage(large, levelOptions(wire.LevelReceived), 0, receiver.id)
				behind := sender.sendMessage([]byte("behind"), levelOptions(wire.LevelReceived), 0, receiver.id)
				for range test.cuts {
					receiver = receiver.reconnectAfter(test.bytes, test.while, connect, test.hello)
				}
				if test.givenUp {
					sender.expectReport(stuck, wire.FateUnreachable)
					if kind, _ := receiver.nextFrame(); kind != wire.TypeSkip {
						t.Errorf("a frame of type %#x instead of SKIP for the message that was given up", kind)
					}
					receiver.expectDeliver(sender.id, behind, []byte("behind"))
					sender.expectReport(behind, wire.FateReceived)
				} else {
					receiver.expectDeliver(sender.id, stuck, large)
					receiver.expectDeliver(sender.id, behind, []byte("behind"))
					sender.expectTwoReports(stuck, behind)
				}
				if n := h.Stats().Dropped[hub.DropGone]; n > 0 != test.givenUp || n > 1 {
					t.Errorf("%d messages have the fate gone, given up: %v", n, test.givenUp)
				}
				after := sender.sendMessage([]byte("after"), levelOptions(wire.LevelReceived), 0, receiver.id)
				receiver.expectDeliver(sender.id, after, []byte("after"))
				sender.expectReport(after, wire.FateReceived)
			})
		})
	}
}

// TestResume_HelloWithoutRead_IsNoAttempt resumes without "read" between connections on which
// the message was begun. Such a connection is no attempt to deliver the message, and does not
// restart the count of attempts.
func TestResume_HelloWithoutRead_IsNoAttempt(t *testing.T) {
	inVirtualTimeWith(t, longKeepAlive, func(t *testing.T, h *testHub) {
		connect := func() *clientV1 { return h.connect(t).withoutReadBuffer() }
		sender, receiver := h.connectV2(t), handshakeV2(connect(), wire.Hello{Version: wire.Version2, Skip: true})
		stuck := sender.sendMessage(pattern(1000, 1), levelOptions(wire.LevelReceived), 0, receiver.id)
		silent := wire.Hello{Version: wire.Version2, Skip: true}
		for range 4 {
			receiver = receiver.reconnectAfter(400, 3*time.Second, connect, helloWithRead(0))
			receiver = receiver.reconnectAfter(0, 4*time.Second, connect, silent)
		}
		receiver = receiver.reconnectAfter(400, 3*time.Second, connect, helloWithRead(0))
		sender.expectReport(stuck, wire.FateUnreachable)
		if kind, _ := receiver.nextFrame(); kind != wire.TypeSkip {
			t.Errorf("a frame of type %#x instead of SKIP for the message that was given up", kind)
		}
	})
}

// TestResume_Report_IsNotGivenUp checks that a report is never given up, because each SEND
// that asks for a report gets one.
func TestResume_Report_IsNotGivenUp(t *testing.T) {
	inVirtualTimeWith(t, longKeepAlive, func(t *testing.T, h *testHub) {
		connect := func() *clientV1 { return h.connect(t).withoutReadBuffer() }
		sender, receiver := handshakeV2(connect(), wire.Hello{Version: wire.Version2, Skip: true}), h.connectV2(t)
		seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, receiver.id)
		receiver.expectDeliver(sender.id, seq, []byte("x"))
		for range 8 {
			sender = sender.reconnectAfter(5, 3*time.Second, connect, helloWithRead(0))
		}
		sender.expectReport(seq, wire.FateReceived)
	})
}

// TestResume_ReadMessage_IsSkipped resumes with a message that the connection has read and the
// application has not received. The hub sends SKIP instead of the message, and the report
// follows the acknowledgement.
func TestResume_ReadMessage_IsSkipped(t *testing.T) {
	inVirtualTimeWith(t, longKeepAlive, func(t *testing.T, h *testHub) {
		connect := func() *clientV1 { return h.connect(t).withoutReadBuffer() }
		sender, receiver := h.connectV2(t), handshakeV2(connect(), wire.Hello{Version: wire.Version2, Skip: true})
		receiver.withholdsAcks = true
		first := sender.sendMessage(pattern(1000, 1), levelOptions(wire.LevelReceived), 0, receiver.id)
		second := sender.sendMessage(pattern(1000, 2), levelOptions(wire.LevelReceived), 0, receiver.id)
		receiver.expectDeliver(sender.id, first, pattern(1000, 1))
		receiver.received = 0 // the application has not received the message
		receiver = receiver.reconnectAfter(100, time.Second, connect, helloWithRead(1))
		receiver.withholdsAcks = true
		if kind, _ := receiver.nextFrame(); kind != wire.TypeSkip {
			t.Errorf("a frame of type %#x instead of SKIP for the message that was read", kind)
		}
		receiver.expectDeliver(sender.id, second, pattern(1000, 2))
		receiver.send(wire.AppendAck(nil, 1))
		sender.expectReport(first, wire.FateReceived)
		receiver.send(wire.AppendAck(nil, 2))
		sender.expectReport(second, wire.FateReceived)
	})
}

// TestResume_InvalidRead_GetsNewSession checks that a HELLO whose "read" is impossible gets a
// new session.
func TestResume_InvalidRead_GetsNewSession(t *testing.T) {
	for _, read := range []uint64{0, 2, 1 << 63, 1<<64 - 1} {
		inVirtualTime(t, func(t *testing.T, h *testHub) {
			sender, receiver := h.connectV2(t), h.connectHello(t, wire.Hello{Version: wire.Version2, Skip: true})
			seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, receiver.id)
			receiver.expectDeliver(sender.id, seq, []byte("x"))
			sender.expectReport(seq, wire.FateReceived)
			receiver.Close()
			hello := helloWithRead(read)
			hello.ID, hello.Resume, hello.Received = receiver.ID, receiver.Resume, 1
			if back := h.connectHello(t, hello); back.Resumed {
				t.Errorf("resumed having received 1 and read %d of 1", read)
			}
		})
	}
}

// TestResume_SmallerMaxBody_DropsLargerMessages resumes with a smaller max_body than before.
// Messages that are now too large are not delivered, whether queued or blocked, and their fate
// is FateTooLarge.
func TestResume_SmallerMaxBody_DropsLargerMessages(t *testing.T) {
	inVirtualTimeWith(t, hub.Config{OutboxBytes: 100_000}, func(t *testing.T, h *testHub) {
		sender, receiver := h.connectV2(t), h.connectHello(t, wire.Hello{Version: wire.Version2, Skip: true})
		receiver.withholdsAcks = true
		var seqs []uint64
		size := func(i int) int { return 1000 + i%2*59_000 }
		const many = 8 // more than fit into the queue: some are blocked
		for i := range many {
			seqs = append(seqs, sender.sendMessage(pattern(size(i), byte(i)), levelOptions(wire.LevelReceived), 0, receiver.id))
		}
		receiver.expectDeliver(sender.id, seqs[0], pattern(1000, 0))
		receiver.Close()
		read := uint64(1)
		back := h.connectHello(t, wire.Hello{
			Version: wire.Version2, Skip: true, MaxBody: 1000, ID: receiver.ID, Resume: receiver.Resume, Received: 1, Read: &read,
		})
		want := make(map[uint64]wire.Fate)
		for i := range many {
			want[seqs[i]] = wire.FateReceived
			if size(i) > 1000 {
				want[seqs[i]] = wire.FateTooLarge
				continue
			}
			if i == 0 {
				continue
			}
			kind, payload := back.nextFrame()
			for kind == wire.TypeSkip {
				kind, payload = back.nextFrame()
			}
			if d, err := wire.ParseDeliver(payload); kind != wire.TypeDeliver || err != nil || d.Seq != seqs[i] {
				t.Fatalf("a frame of type %#x, message %d (%v), want %d", kind, d.Seq, err, seqs[i])
			}
		}
		for range many {
			seq, fates := sender.readReport()
			if len(fates) != 1 || fates[0] != want[seq] {
				t.Errorf("message %d: %v, want %v", seq, fates, want[seq])
			}
			delete(want, seq)
		}
		synctest.Wait() // the hub counts them after it has reported them
		if n := h.Stats().Dropped[hub.DropTooLarge]; n != many/2 {
			t.Errorf("%d messages were too large, want %d", n, many/2)
		}
	})
}

// TestResume_UntrackedMessages_AreCounted checks that messages without a report are counted
// when they are given up or are too large.
func TestResume_UntrackedMessages_AreCounted(t *testing.T) {
	type send func(body []byte, to uint64) (seq uint64)
	for _, sender := range []struct {
		name    string
		connect func(t *testing.T, h *testHub) (uint64, send)
	}{
		{"version 1", func(t *testing.T, h *testHub) (uint64, send) {
			c := h.connect(t).requestID()
			return c.id, func(body []byte, to uint64) uint64 {
				c.relay(body, to)
				return 0
			}
		}},
		{"no report", func(t *testing.T, h *testHub) (uint64, send) {
			c := h.connectV2(t)
			return c.id, func(body []byte, to uint64) uint64 { return c.sendMessage(body, 0, 0, to) }
		}},
	} {
		t.Run(sender.name, func(t *testing.T) {
			var log logBuffer
			config := longKeepAlive
			config.Logger = log.logger()
			inVirtualTimeWith(t, config, func(t *testing.T, h *testHub) {
				connect := func() *clientV1 { return h.connect(t).withoutReadBuffer() }
				id, send := sender.connect(t, h)
				receiver := handshakeV2(connect(), wire.Hello{Version: wire.Version2, Skip: true})
				send(pattern(1000, 1), receiver.id)
				send(pattern(2000, 2), receiver.id)
				behind := send(pattern(10, 3), receiver.id)
				for range 5 {
					receiver = receiver.reconnectAfter(400, 3*time.Second, connect, helloWithRead(0))
				}
				smaller := helloWithRead(0)
				smaller.MaxBody = 1000
				receiver = receiver.reconnectAfter(0, time.Second, connect, smaller)
				if kind, _ := receiver.nextFrame(); kind != wire.TypeSkip {
					t.Errorf("a frame of type %#x instead of SKIP for the message that was given up", kind)
				}
				receiver.expectDeliver(id, behind, pattern(10, 3))
				if s := h.Stats(); s.Dropped[hub.DropGone] != 1 || s.Dropped[hub.DropTooLarge] != 1 || len(s.Fates) != 0 {
					t.Errorf("%d messages have the fate gone, %d were too large, want 1 and 1; fates: %v", s.Dropped[hub.DropGone], s.Dropped[hub.DropTooLarge], s.Fates)
				}
			})
			log.waitFor(t, "message dropped")
		})
	}
}

// TestResume_ReadMessage_DoesNotExpire loses the connection together with the SKIP for a
// message whose time to live then ends. The receiver has the message, and its fate must not be
// uncertain.
func TestResume_ReadMessage_DoesNotExpire(t *testing.T) {
	inVirtualTimeWith(t, longKeepAlive, func(t *testing.T, h *testHub) {
		connect := func() *clientV1 { return h.connect(t).withoutReadBuffer() }
		sender, receiver := h.connectV2(t), handshakeV2(connect(), wire.Hello{Version: wire.Version2, Skip: true})
		receiver.withholdsAcks = true
		seq := sender.sendMessage(pattern(1000, 1), levelOptions(wire.LevelReceived), 10_000, receiver.id)
		receiver.expectDeliver(sender.id, seq, pattern(1000, 1))
		receiver.received = 0 // the application has not received the message
		receiver = receiver.reconnectAfter(0, time.Second, connect, helloWithRead(1))
		receiver.withholdsAcks = true
		if kind, _ := receiver.nextFrame(); kind != wire.TypeSkip {
			t.Errorf("a frame of type %#x instead of SKIP for the message that was read", kind)
		}
		receiver.Close()
		sender.expectReport(seq, wire.FateWritten)
	})
}

// TestResume_CutLargeMessage_IsGivenUp resets the connection in the middle of a large message each
// time, while the bystanders exchange messages.
func TestResume_CutLargeMessage_IsGivenUp(t *testing.T) {
	t.Parallel() // over TCP, most of its time passes between the cuts
	onTransports(t, func(t *testing.T, tr testTransport) {
		r := startCutMessage(t, tr, 2600*time.Millisecond)
		r.sender.expectReport(r.stuck, wire.FateUnreachable)
		if kind, _ := r.receiver.nextFrame(); kind != wire.TypeSkip {
			t.Errorf("a frame of type %#x instead of SKIP for the message that was given up", kind)
		}
		r.receiver.expectDeliver(r.sender.id, r.behind, []byte("behind"))
		r.sender.expectReport(r.behind, wire.FateReceived)
		if n := r.hub.Stats().Fates[wire.FateUnreachable]; n != 1 {
			t.Errorf("%d messages were unreachable, want 1", n)
		}
		if n := r.hub.Stats().Dropped[hub.DropGone]; n != 1 {
			t.Errorf("%d messages have the fate gone, want 1", n)
		}
	})
}

// TestResume_LargeMessageCutAtOnce_IsDelivered is the same with connections that end at once. The
// hub must not give the message up.
func TestResume_LargeMessageCutAtOnce_IsDelivered(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		r := startCutMessage(t, tr, 0)
		r.receiver.expectDeliver(r.sender.id, r.stuck, r.large)
		r.receiver.expectDeliver(r.sender.id, r.behind, []byte("behind"))
		r.sender.expectTwoReports(r.stuck, r.behind)
		if n := r.hub.Stats().Dropped[hub.DropGone]; n > 0 {
			t.Errorf("%d messages have the fate gone", n)
		}
	})
}

// cutMessage is a large message whose receiver has lost five connections in the middle of it, and
// a small message behind it.
type cutMessage struct {
	hub              *testHub
	sender, receiver *clientV2
	large            []byte
	stuck, behind    uint64 // their seqs
}

// startCutMessage resets each of five connections after delay.
func startCutMessage(t *testing.T, tr testTransport, delay time.Duration) *cutMessage {
	t.Helper()
	h := tr.start(t, longKeepAlive)
	bystanders := h.startBystanders(t)
	r := &cutMessage{hub: h, sender: h.connectV2(t), large: pattern(1<<20, 1)}
	r.receiver = h.connectHello(t, wire.Hello{Version: wire.Version2, Skip: true})
	r.stuck = r.sender.sendMessage(r.large, levelOptions(wire.LevelReceived), 0, r.receiver.id)
	r.behind = r.sender.sendMessage([]byte("behind"), levelOptions(wire.LevelReceived), 0, r.receiver.id)
	for range 5 {
		r.receiver.skip(100_000)
		<-time.After(delay)
		r.receiver.reset()
		r.receiver = r.receiver.reconnect(h.connect(t), helloWithRead(0))
	}
	bystanders.waitRounds(3)
	return r
}

func TestResume_UnackedMessages_AreResent(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		for _, size := range bodySizes {
			h := tr.start(t, hub.Config{})
			sender, first := h.connectV2(t), h.connectV2(t)
			body := pattern(size, 1)
			for i := range 3 {
				first.withholdsAcks = i == 2 // the client crashes before it acknowledges the third message
				first.expectDeliver(sender.id, sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, first.id), body)
			}
			first.received = 2
			first.reset()
			late := sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, first.id)

			second := h.resume(t, first)
			if !second.Resumed || second.ID != first.ID || second.Again < 1 {
				t.Fatalf("resumed as %+v, want id %d", second.Welcome, first.ID)
			}
			sender.expectReport(late-3, wire.FateReceived)
			sender.expectReport(late-2, wire.FateReceived)
			second.expectDeliver(sender.id, late-1, body)
			second.expectDeliver(sender.id, late, body)
			sender.expectReport(late-1, wire.FateReceived)
			sender.expectReport(late, wire.FateReceived)
		}
	})
}

// TestResume_Sender_GetsPendingReports loses the sender's connection. After resuming, the
// sender learns the seq of its last SEND that the hub has, and gets its pending reports.
func TestResume_Sender_GetsPendingReports(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		sender, receiver := h.connectV2(t), h.connectV2(t)
		seq := sender.sendMessage([]byte("a"), levelOptions(wire.LevelReceived), 0, receiver.id)
		receiver.expectDeliver(sender.id, seq, []byte("a"))
		sender.expectReport(seq, wire.FateReceived)
		receiver.withholdsAcks = true
		seq = sender.sendMessage([]byte("b"), levelOptions(wire.LevelReceived), 0, receiver.id)
		receiver.expectDeliver(sender.id, seq, []byte("b"))
		sender.reset()
		receiver.send(wire.AppendAck(nil, receiver.received))
		receiver.awaitPong()

		again := h.resume(t, sender)
		if !again.Resumed || again.Welcome.Seq != seq {
			t.Fatalf("resumed as %+v, want Seq %d", again.Welcome, seq)
		}
		again.expectReport(seq, wire.FateReceived)
		seq = again.sendMessage([]byte("c"), 0, 0, receiver.id)
		receiver.expectDeliver(sender.id, seq, []byte("c"))
	})
}
