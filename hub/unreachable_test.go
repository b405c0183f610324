package hub_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// patient is for guests that say nothing while one of them comes and goes.
var patient = hub.Config{KeepAlive: time.Hour}

// comeBack takes some bytes of what the hub sends, loses the connection after a while, and comes
// back on the next one.
func (g *guest) comeBack(bytes int, while time.Duration, next func() *peer, h wire.Hello) *guest {
	g.t.Helper()
	if _, err := io.ReadFull(g, make([]byte, bytes)); err != nil {
		g.t.Fatal(err)
	}
	time.Sleep(while)
	g.Close()
	h.ID, h.Resume, h.Received = g.ID, g.Resume, g.had
	back := greet(next(), h)
	if !back.Resumed {
		g.t.Fatal("not resumed")
	}
	return back
}

// reads is a HELLO that says how many counted frames have come whole.
func reads(n uint64) wire.Hello {
	return wire.Hello{Version: wire.Version2, Skip: true, Read: &n}
}

// TestResume_MessageThatDoesNotGetThrough is cut again and again in its middle. After five
// connections it is given up, if the receiver says what has come and knows SKIP, and what is behind
// it goes on.
func TestResume_MessageThatDoesNotGetThrough(t *testing.T) {
	for _, test := range []struct {
		name    string
		hello   wire.Hello
		bytes   int // of the message that come on each connection
		while   time.Duration
		cuts    int
		givenUp bool
	}{
		{"each takes its time", reads(0), 400, 3 * time.Second, 5, true},
		{"cut once less", reads(0), 400, 3 * time.Second, 4, false},
		{"cut at once", reads(0), 400, 100 * time.Millisecond, 50, false},
		{"nothing of it comes", reads(0), 0, 3 * time.Second, 10, false},
		{"does not know SKIP", wire.Hello{Version: wire.Version2, Read: new(uint64)}, 400, 3 * time.Second, 10, false},
		{"does not say what came", wire.Hello{Version: wire.Version2, Skip: true}, 400, 3 * time.Second, 10, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTimeWith(t, patient, func(t *testing.T, h *testHub, ln *pipes) {
				next := func() *peer { return virtual(t, ln) }
				first := test.hello
				first.Read = nil
				sender, receiver := virtualGuest(t, ln), greet(next(), first)
				large := pattern(1000, 1)
				stuck := sender.tell(large, only(wire.LevelReceived), 0, receiver.id)
				behind := sender.tell([]byte("behind"), only(wire.LevelReceived), 0, receiver.id)
				for range test.cuts {
					receiver = receiver.comeBack(test.bytes, test.while, next, test.hello)
				}
				if test.givenUp {
					sender.reported(stuck, wire.FateUnreachable)
					if kind, _ := receiver.read(); kind != wire.TypeSkip {
						t.Errorf("a frame of type %#x in the place of what was given up", kind)
					}
					receiver.delivered(sender.id, behind, []byte("behind"))
					sender.reported(behind, wire.FateReceived)
				} else {
					receiver.delivered(sender.id, stuck, large)
					receiver.delivered(sender.id, behind, []byte("behind"))
					sender.bothReported(stuck, behind)
				}
				if n := h.Stats().Gone; n > 0 != test.givenUp || n > 1 {
					t.Errorf("%d messages are gone, given up: %v", n, test.givenUp)
				}
				after := sender.tell([]byte("after"), only(wire.LevelReceived), 0, receiver.id)
				receiver.delivered(sender.id, after, []byte("after"))
				sender.reported(after, wire.FateReceived)
			})
		})
	}
}

// TestResume_ConnectionWithoutWelcomeSaysNothing lies between those on which the message was begun:
// it is no attempt, and does not begin the counting anew.
func TestResume_ConnectionWithoutWelcomeSaysNothing(t *testing.T) {
	inVirtualTimeWith(t, patient, func(t *testing.T, h *testHub, ln *pipes) {
		next := func() *peer { return virtual(t, ln) }
		sender, receiver := virtualGuest(t, ln), greet(next(), wire.Hello{Version: wire.Version2, Skip: true})
		stuck := sender.tell(pattern(1000, 1), only(wire.LevelReceived), 0, receiver.id)
		silent := wire.Hello{Version: wire.Version2, Skip: true}
		for range 4 {
			receiver = receiver.comeBack(400, 3*time.Second, next, reads(0))
			receiver = receiver.comeBack(0, 4*time.Second, next, silent)
		}
		receiver = receiver.comeBack(400, 3*time.Second, next, reads(0))
		sender.reported(stuck, wire.FateUnreachable)
		if kind, _ := receiver.read(); kind != wire.TypeSkip {
			t.Errorf("a frame of type %#x in the place of what was given up", kind)
		}
	})
}

// TestResume_ReportIsNotGivenUp but comes when it can: each SEND that asks for one gets it.
func TestResume_ReportIsNotGivenUp(t *testing.T) {
	inVirtualTimeWith(t, patient, func(t *testing.T, h *testHub, ln *pipes) {
		next := func() *peer { return virtual(t, ln) }
		sender, receiver := greet(next(), wire.Hello{Version: wire.Version2, Skip: true}), virtualGuest(t, ln)
		seq := sender.tell([]byte("x"), only(wire.LevelReceived), 0, receiver.id)
		receiver.delivered(sender.id, seq, []byte("x"))
		for range 8 {
			sender = sender.comeBack(5, 3*time.Second, next, reads(0))
		}
		sender.reported(seq, wire.FateReceived)
	})
}

// TestResume_WhatWasReadDoesNotComeAgain although the application has not had it: a SKIP comes, and
// the report follows when the application has.
func TestResume_WhatWasReadDoesNotComeAgain(t *testing.T) {
	inVirtualTimeWith(t, patient, func(t *testing.T, h *testHub, ln *pipes) {
		next := func() *peer { return virtual(t, ln) }
		sender, receiver := virtualGuest(t, ln), greet(next(), wire.Hello{Version: wire.Version2, Skip: true})
		receiver.mute = true
		first := sender.tell(pattern(1000, 1), only(wire.LevelReceived), 0, receiver.id)
		second := sender.tell(pattern(1000, 2), only(wire.LevelReceived), 0, receiver.id)
		receiver.delivered(sender.id, first, pattern(1000, 1))
		receiver.had = 0 // its application has not had it
		receiver = receiver.comeBack(100, time.Second, next, reads(1))
		receiver.mute = true
		if kind, _ := receiver.read(); kind != wire.TypeSkip {
			t.Errorf("a frame of type %#x in the place of what was read", kind)
		}
		receiver.delivered(sender.id, second, pattern(1000, 2))
		receiver.send(wire.AppendTaken(nil, 1))
		sender.reported(first, wire.FateReceived)
		receiver.send(wire.AppendTaken(nil, 2))
		sender.reported(second, wire.FateReceived)
	})
}

// TestResume_ReadThatCannotBe makes somebody new of the client.
func TestResume_ReadThatCannotBe(t *testing.T) {
	for _, read := range []uint64{0, 2, 1 << 63, 1<<64 - 1} {
		inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
			sender, receiver := virtualGuest(t, ln), greet(virtual(t, ln), wire.Hello{Version: wire.Version2, Skip: true})
			seq := sender.tell([]byte("x"), only(wire.LevelReceived), 0, receiver.id)
			receiver.delivered(sender.id, seq, []byte("x"))
			sender.reported(seq, wire.FateReceived)
			receiver.Close()
			hello := reads(read)
			hello.ID, hello.Resume, hello.Received = receiver.ID, receiver.Resume, 1
			if back := greet(virtual(t, ln), hello); back.Resumed {
				t.Errorf("resumed having received 1 and read %d of 1", read)
			}
		})
	}
}

// TestResume_SmallerMaxBody brings back a client that takes less than before. What is too large for
// it does not come, wherever it waited, and its fate says so.
func TestResume_SmallerMaxBody(t *testing.T) {
	inVirtualTimeWith(t, hub.Config{OutboxBytes: 100_000}, func(t *testing.T, h *testHub, ln *pipes) {
		sender, receiver := virtualGuest(t, ln), greet(virtual(t, ln), wire.Hello{Version: wire.Version2, Skip: true})
		receiver.mute = true
		var seqs []uint64
		size := func(i int) int { return 1000 + i%2*59_000 }
		const many = 8 // more than fit into the queue: some are parked
		for i := range many {
			seqs = append(seqs, sender.tell(pattern(size(i), byte(i)), only(wire.LevelReceived), 0, receiver.id))
		}
		receiver.delivered(sender.id, seqs[0], pattern(1000, 0))
		receiver.Close()
		read := uint64(1)
		back := greet(virtual(t, ln), wire.Hello{
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
			kind, payload := back.read()
			for kind == wire.TypeSkip {
				kind, payload = back.read()
			}
			if d, err := wire.ParseDeliver(payload); kind != wire.TypeDeliver || err != nil || d.Seq != seqs[i] {
				t.Fatalf("a frame of type %#x, message %d (%v), want %d", kind, d.Seq, err, seqs[i])
			}
		}
		for range many {
			seq, fates := sender.report()
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

// TestResume_CountsWhatNobodyFollows: no report says that such messages do not come.
func TestResume_CountsWhatNobodyFollows(t *testing.T) {
	type send func(body []byte, to uint64) (seq uint64)
	for _, sender := range []struct {
		name    string
		connect func(t *testing.T, ln *pipes) (uint64, send)
	}{
		{"version 1", func(t *testing.T, ln *pipes) (uint64, send) {
			p := virtual(t, ln).named()
			return p.id, func(body []byte, to uint64) uint64 {
				p.relay(body, to)
				return 0
			}
		}},
		{"no report", func(t *testing.T, ln *pipes) (uint64, send) {
			g := virtualGuest(t, ln)
			return g.id, func(body []byte, to uint64) uint64 { return g.tell(body, 0, 0, to) }
		}},
	} {
		t.Run(sender.name, func(t *testing.T) {
			var log logbook
			config := patient
			config.Logger = log.logger()
			inVirtualTimeWith(t, config, func(t *testing.T, h *testHub, ln *pipes) {
				next := func() *peer { return virtual(t, ln) }
				id, send := sender.connect(t, ln)
				receiver := greet(next(), wire.Hello{Version: wire.Version2, Skip: true})
				send(pattern(1000, 1), receiver.id)
				send(pattern(2000, 2), receiver.id)
				behind := send(pattern(10, 3), receiver.id)
				for range 5 {
					receiver = receiver.comeBack(400, 3*time.Second, next, reads(0))
				}
				small := reads(0)
				small.MaxBody = 1000
				receiver = receiver.comeBack(0, time.Second, next, small)
				if kind, _ := receiver.read(); kind != wire.TypeSkip {
					t.Errorf("a frame of type %#x in the place of what was given up", kind)
				}
				receiver.delivered(id, behind, pattern(10, 3))
				if s := h.Stats(); s.Gone != 1 || s.TooLarge != 1 || len(s.Fates) != 0 {
					t.Errorf("%d messages are gone, %d were too large, want 1 and 1; fates: %v", s.Gone, s.TooLarge, s.Fates)
				}
			})
			log.has(t, "message given up")
		})
	}
}

// TestResume_WhatWasReadDoesNotExpire loses the connection with the SKIP that stands for a message
// whose time then runs out. The receiver has it, so nothing about its fate is uncertain.
func TestResume_WhatWasReadDoesNotExpire(t *testing.T) {
	inVirtualTimeWith(t, patient, func(t *testing.T, h *testHub, ln *pipes) {
		next := func() *peer { return virtual(t, ln) }
		sender, receiver := virtualGuest(t, ln), greet(next(), wire.Hello{Version: wire.Version2, Skip: true})
		receiver.mute = true
		seq := sender.tell(pattern(1000, 1), only(wire.LevelReceived), 10_000, receiver.id)
		receiver.delivered(sender.id, seq, pattern(1000, 1))
		receiver.had = 0 // its application has not had it
		receiver = receiver.comeBack(0, time.Second, next, reads(1))
		receiver.mute = true
		if kind, _ := receiver.read(); kind != wire.TypeSkip {
			t.Errorf("a frame of type %#x in the place of what was read", kind)
		}
		receiver.Close()
		sender.reported(seq, wire.FateWritten)
	})
}

// TestResume_GivenUpOverASlowLink has a real connection that is cut in the middle of a large
// message each time, while others exchange messages.
func TestResume_GivenUpOverASlowLink(t *testing.T) {
	t.Parallel() // most of its time passes between the cuts
	s := start(t, patient)
	s.bystand(t)
	sender := s.guest(t)
	receiver := s.hello(t, wire.Hello{Version: wire.Version2, Skip: true})
	next := func() *peer { return s.silent(t) }
	large := pattern(1<<20, 1)
	stuck := sender.tell(large, only(wire.LevelReceived), 0, receiver.id)
	behind := sender.tell([]byte("behind"), only(wire.LevelReceived), 0, receiver.id)
	for range 5 {
		receiver.Conn.(*net.TCPConn).SetLinger(0)
		receiver = receiver.comeBack(100_000, 2600*time.Millisecond, next, reads(0))
	}
	sender.reported(stuck, wire.FateUnreachable)
	if kind, _ := receiver.read(); kind != wire.TypeSkip {
		t.Errorf("a frame of type %#x in the place of what was given up", kind)
	}
	receiver.delivered(sender.id, behind, []byte("behind"))
	sender.reported(behind, wire.FateReceived)
	if n := s.Stats().Fates[wire.FateUnreachable]; n != 1 {
		t.Errorf("%d messages were unreachable, want 1", n)
	}
	if n := s.Stats().Gone; n != 1 {
		t.Errorf("%d messages are gone, want 1", n)
	}
}
