package hub_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// longKeepAlive is for guests that say nothing while one of them comes and goes.
var longKeepAlive = hub.Config{KeepAlive: time.Hour}

// reconnectAfter takes some bytes of what the hub sends, loses the connection after a while, and comes
// back on the next one.
func (c *clientV2) reconnectAfter(n int, delay time.Duration, connect func() *clientV1, hello wire.Hello) *clientV2 {
	c.t.Helper()
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		c.t.Fatal(err)
	}
	time.Sleep(delay)
	c.Close()
	hello.ID, hello.Resume, hello.Received = c.ID, c.Resume, c.received
	back := handshakeV2(connect(), hello)
	if !back.Resumed {
		c.t.Fatal("not resumed")
	}
	return back
}

// helloWithRead is a HELLO that says how many counted frames have come whole.
func helloWithRead(n uint64) wire.Hello {
	return wire.Hello{Version: wire.Version2, Skip: true, Read: &n}
}

// TestResume_RepeatedlyCutMessage_IsGivenUp is cut again and again in its middle. After five
// connections it is given up, if the receiver says what has come and knows SKIP, and what is behind
// it goes on.
func TestResume_RepeatedlyCutMessage_IsGivenUp(t *testing.T) {
	for _, test := range []struct {
		name    string
		hello   wire.Hello
		bytes   int // of the message that come on each connection
		while   time.Duration
		cuts    int
		givenUp bool
	}{
		{"each takes its time", helloWithRead(0), 400, 3 * time.Second, 5, true},
		{"cut once less", helloWithRead(0), 400, 3 * time.Second, 4, false},
		{"cut at once", helloWithRead(0), 400, 100 * time.Millisecond, 50, false},
		{"nothing of it comes", helloWithRead(0), 0, 3 * time.Second, 10, false},
		{"does not know SKIP", wire.Hello{Version: wire.Version2, Read: new(uint64)}, 400, 3 * time.Second, 10, false},
		{"does not say what came", wire.Hello{Version: wire.Version2, Skip: true}, 400, 3 * time.Second, 10, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTimeWith(t, longKeepAlive, func(t *testing.T, h *testHub, ln *pipeListener) {
				connect := func() *clientV1 { return connectPipe(t, ln) }
				first := test.hello
				first.Read = nil
				sender, receiver := connectPipeV2(t, ln), handshakeV2(connect(), first)
				large := pattern(1000, 1)
				stuck := sender.sendMessage(large, levelOptions(wire.LevelReceived), 0, receiver.id)
				behind := sender.sendMessage([]byte("behind"), levelOptions(wire.LevelReceived), 0, receiver.id)
				for range test.cuts {
					receiver = receiver.reconnectAfter(test.bytes, test.while, connect, test.hello)
				}
				if test.givenUp {
					sender.expectReport(stuck, wire.FateUnreachable)
					if kind, _ := receiver.nextFrame(); kind != wire.TypeSkip {
						t.Errorf("a frame of type %#x in the place of what was given up", kind)
					}
					receiver.expectDeliver(sender.id, behind, []byte("behind"))
					sender.expectReport(behind, wire.FateReceived)
				} else {
					receiver.expectDeliver(sender.id, stuck, large)
					receiver.expectDeliver(sender.id, behind, []byte("behind"))
					sender.expectTwoReports(stuck, behind)
				}
				if n := h.Stats().Gone; n > 0 != test.givenUp || n > 1 {
					t.Errorf("%d messages are gone, given up: %v", n, test.givenUp)
				}
				after := sender.sendMessage([]byte("after"), levelOptions(wire.LevelReceived), 0, receiver.id)
				receiver.expectDeliver(sender.id, after, []byte("after"))
				sender.expectReport(after, wire.FateReceived)
			})
		})
	}
}

// TestResume_HelloWithoutRead_IsNoAttempt lies between those on which the message was begun:
// it is no attempt, and does not begin the counting anew.
func TestResume_HelloWithoutRead_IsNoAttempt(t *testing.T) {
	inVirtualTimeWith(t, longKeepAlive, func(t *testing.T, h *testHub, ln *pipeListener) {
		connect := func() *clientV1 { return connectPipe(t, ln) }
		sender, receiver := connectPipeV2(t, ln), handshakeV2(connect(), wire.Hello{Version: wire.Version2, Skip: true})
		stuck := sender.sendMessage(pattern(1000, 1), levelOptions(wire.LevelReceived), 0, receiver.id)
		silent := wire.Hello{Version: wire.Version2, Skip: true}
		for range 4 {
			receiver = receiver.reconnectAfter(400, 3*time.Second, connect, helloWithRead(0))
			receiver = receiver.reconnectAfter(0, 4*time.Second, connect, silent)
		}
		receiver = receiver.reconnectAfter(400, 3*time.Second, connect, helloWithRead(0))
		sender.expectReport(stuck, wire.FateUnreachable)
		if kind, _ := receiver.nextFrame(); kind != wire.TypeSkip {
			t.Errorf("a frame of type %#x in the place of what was given up", kind)
		}
	})
}

// TestResume_Report_IsNotGivenUp but comes when it can: each SEND that asks for one gets it.
func TestResume_Report_IsNotGivenUp(t *testing.T) {
	inVirtualTimeWith(t, longKeepAlive, func(t *testing.T, h *testHub, ln *pipeListener) {
		connect := func() *clientV1 { return connectPipe(t, ln) }
		sender, receiver := handshakeV2(connect(), wire.Hello{Version: wire.Version2, Skip: true}), connectPipeV2(t, ln)
		seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, receiver.id)
		receiver.expectDeliver(sender.id, seq, []byte("x"))
		for range 8 {
			sender = sender.reconnectAfter(5, 3*time.Second, connect, helloWithRead(0))
		}
		sender.expectReport(seq, wire.FateReceived)
	})
}

// TestResume_ReadMessage_IsSkipped although the application has not had it: a SKIP comes, and
// the report follows when the application has.
func TestResume_ReadMessage_IsSkipped(t *testing.T) {
	inVirtualTimeWith(t, longKeepAlive, func(t *testing.T, h *testHub, ln *pipeListener) {
		connect := func() *clientV1 { return connectPipe(t, ln) }
		sender, receiver := connectPipeV2(t, ln), handshakeV2(connect(), wire.Hello{Version: wire.Version2, Skip: true})
		receiver.withholdsAcks = true
		first := sender.sendMessage(pattern(1000, 1), levelOptions(wire.LevelReceived), 0, receiver.id)
		second := sender.sendMessage(pattern(1000, 2), levelOptions(wire.LevelReceived), 0, receiver.id)
		receiver.expectDeliver(sender.id, first, pattern(1000, 1))
		receiver.received = 0 // its application has not had it
		receiver = receiver.reconnectAfter(100, time.Second, connect, helloWithRead(1))
		receiver.withholdsAcks = true
		if kind, _ := receiver.nextFrame(); kind != wire.TypeSkip {
			t.Errorf("a frame of type %#x in the place of what was read", kind)
		}
		receiver.expectDeliver(sender.id, second, pattern(1000, 2))
		receiver.send(wire.AppendAck(nil, 1))
		sender.expectReport(first, wire.FateReceived)
		receiver.send(wire.AppendAck(nil, 2))
		sender.expectReport(second, wire.FateReceived)
	})
}

// TestResume_InvalidRead_GetsNewSession makes somebody new of the client.
func TestResume_InvalidRead_GetsNewSession(t *testing.T) {
	for _, read := range []uint64{0, 2, 1 << 63, 1<<64 - 1} {
		inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
			sender, receiver := connectPipeV2(t, ln), handshakeV2(connectPipe(t, ln), wire.Hello{Version: wire.Version2, Skip: true})
			seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, receiver.id)
			receiver.expectDeliver(sender.id, seq, []byte("x"))
			sender.expectReport(seq, wire.FateReceived)
			receiver.Close()
			hello := helloWithRead(read)
			hello.ID, hello.Resume, hello.Received = receiver.ID, receiver.Resume, 1
			if back := handshakeV2(connectPipe(t, ln), hello); back.Resumed {
				t.Errorf("resumed having received 1 and read %d of 1", read)
			}
		})
	}
}

// TestResume_SmallerMaxBody_DropsLargerMessages brings back a client that takes less than before. What is too large for
// it does not come, wherever it waited, and its fate says so.
func TestResume_SmallerMaxBody_DropsLargerMessages(t *testing.T) {
	inVirtualTimeWith(t, hub.Config{OutboxBytes: 100_000}, func(t *testing.T, h *testHub, ln *pipeListener) {
		sender, receiver := connectPipeV2(t, ln), handshakeV2(connectPipe(t, ln), wire.Hello{Version: wire.Version2, Skip: true})
		receiver.withholdsAcks = true
		var seqs []uint64
		size := func(i int) int { return 1000 + i%2*59_000 }
		const many = 8 // more than fit into the queue: some are parked
		for i := range many {
			seqs = append(seqs, sender.sendMessage(pattern(size(i), byte(i)), levelOptions(wire.LevelReceived), 0, receiver.id))
		}
		receiver.expectDeliver(sender.id, seqs[0], pattern(1000, 0))
		receiver.Close()
		read := uint64(1)
		back := handshakeV2(connectPipe(t, ln), wire.Hello{
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
		if n := h.Stats().TooLarge; n != many/2 {
			t.Errorf("%d messages were too large, want %d", n, many/2)
		}
	})
}

// TestResume_UntrackedMessages_AreCounted: no report says that such messages do not come.
func TestResume_UntrackedMessages_AreCounted(t *testing.T) {
	type send func(body []byte, to uint64) (seq uint64)
	for _, sender := range []struct {
		name    string
		connect func(t *testing.T, ln *pipeListener) (uint64, send)
	}{
		{"version 1", func(t *testing.T, ln *pipeListener) (uint64, send) {
			c := connectPipe(t, ln).requestID()
			return c.id, func(body []byte, to uint64) uint64 {
				c.relay(body, to)
				return 0
			}
		}},
		{"no report", func(t *testing.T, ln *pipeListener) (uint64, send) {
			c := connectPipeV2(t, ln)
			return c.id, func(body []byte, to uint64) uint64 { return c.sendMessage(body, 0, 0, to) }
		}},
	} {
		t.Run(sender.name, func(t *testing.T) {
			var log logBuffer
			config := longKeepAlive
			config.Logger = log.logger()
			inVirtualTimeWith(t, config, func(t *testing.T, h *testHub, ln *pipeListener) {
				connect := func() *clientV1 { return connectPipe(t, ln) }
				id, send := sender.connect(t, ln)
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
					t.Errorf("a frame of type %#x in the place of what was given up", kind)
				}
				receiver.expectDeliver(id, behind, pattern(10, 3))
				if s := h.Stats(); s.Gone != 1 || s.TooLarge != 1 || len(s.Fates) != 0 {
					t.Errorf("%d messages are gone, %d were too large, want 1 and 1; fates: %v", s.Gone, s.TooLarge, s.Fates)
				}
			})
			log.waitFor(t, "message given up")
		})
	}
}

// TestResume_ReadMessage_DoesNotExpire loses the connection with the SKIP that stands for a message
// whose time then runs out. The receiver has it, so nothing about its fate is uncertain.
func TestResume_ReadMessage_DoesNotExpire(t *testing.T) {
	inVirtualTimeWith(t, longKeepAlive, func(t *testing.T, h *testHub, ln *pipeListener) {
		connect := func() *clientV1 { return connectPipe(t, ln) }
		sender, receiver := connectPipeV2(t, ln), handshakeV2(connect(), wire.Hello{Version: wire.Version2, Skip: true})
		receiver.withholdsAcks = true
		seq := sender.sendMessage(pattern(1000, 1), levelOptions(wire.LevelReceived), 10_000, receiver.id)
		receiver.expectDeliver(sender.id, seq, pattern(1000, 1))
		receiver.received = 0 // its application has not had it
		receiver = receiver.reconnectAfter(0, time.Second, connect, helloWithRead(1))
		receiver.withholdsAcks = true
		if kind, _ := receiver.nextFrame(); kind != wire.TypeSkip {
			t.Errorf("a frame of type %#x in the place of what was read", kind)
		}
		receiver.Close()
		sender.expectReport(seq, wire.FateWritten)
	})
}

// TestResume_CutOverTCP_IsGivenUp has a real connection that is cut in the middle of a large
// message each time, while others exchange messages.
func TestResume_CutOverTCP_IsGivenUp(t *testing.T) {
	t.Parallel() // most of its time passes between the cuts
	h := start(t, longKeepAlive)
	h.startBystanders(t)
	sender := h.connectV2(t)
	receiver := h.connectHello(t, wire.Hello{Version: wire.Version2, Skip: true})
	connect := func() *clientV1 { return h.connect(t) }
	large := pattern(1<<20, 1)
	stuck := sender.sendMessage(large, levelOptions(wire.LevelReceived), 0, receiver.id)
	behind := sender.sendMessage([]byte("behind"), levelOptions(wire.LevelReceived), 0, receiver.id)
	for range 5 {
		receiver.Conn.(*net.TCPConn).SetLinger(0)
		receiver = receiver.reconnectAfter(100_000, 2600*time.Millisecond, connect, helloWithRead(0))
	}
	sender.expectReport(stuck, wire.FateUnreachable)
	if kind, _ := receiver.nextFrame(); kind != wire.TypeSkip {
		t.Errorf("a frame of type %#x in the place of what was given up", kind)
	}
	receiver.expectDeliver(sender.id, behind, []byte("behind"))
	sender.expectReport(behind, wire.FateReceived)
	if n := h.Stats().Fates[wire.FateUnreachable]; n != 1 {
		t.Errorf("%d messages were unreachable, want 1", n)
	}
	if n := h.Stats().Gone; n != 1 {
		t.Errorf("%d messages are gone, want 1", n)
	}
}
