package link

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

func TestLink_Gap_IsFilledInARoundTrip(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		p.a.setCarry(lose(1))
		p.a.write(numbered(5000))
		p.b.wantReceived(4*testDelay, numbered(5000))
		a, b := p.a.link.Stats(), p.b.link.Stats()
		if b.Gaps == 0 || a.Timeouts != 0 {
			t.Errorf("%d gaps, %d timeouts", b.Gaps, a.Timeouts)
		}
		if first := uint64(testMaxFrame - headerSize - len(testPrefix)); a.Sent != 5000 || a.Resent != 5000-first {
			t.Errorf("%d bytes are sent and %d sent again, want 5000 and %d", a.Sent, a.Resent, 5000-first)
		}
	})
}

// TestLink_Gap_RepeatedLoss loses the same part of the stream several times.
func TestLink_Gap_RepeatedLoss(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		p.a.setCarry(lose(1, 6, 11)) // frames 1, 6 and 11 have the second part, of 6
		p.a.write(numbered(5500))
		p.b.wantReceived(2*settle, numbered(5500))
		if a := p.a.link.Stats(); a.Timeouts != 0 || a.Resent > 4*5500 {
			t.Errorf("%d timeouts, %d bytes are sent again", a.Timeouts, a.Resent)
		}
	})
}

// TestLink_Gap_CountsOnce gives the sender several requests from before it went back, and one from
// after.
func TestLink_Gap_CountsOnce(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		p.a.setCarry(loseAll)
		before := p.a.link.Now()
		p.a.write(numbered(5000))
		ask := func(echo int64) uint64 {
			time.Sleep(time.Millisecond)
			h := header{flags: flagGap, sender: p.b.link.id, receiver: p.a.link.id, generation: 1, sentAt: before, echo: echo}
			p.a.link.Handle(appendHeader(nil, &h))
			synctest.Wait()
			return p.a.link.Stats().Resent
		}
		for i, want := range []uint64{5000, 5000, 5000} {
			if got := ask(before); got != want {
				t.Errorf("after request %d, %d bytes are sent again, want %d", i, got, want)
			}
		}
		if got := ask(p.a.link.Now()); got != 10000 {
			t.Errorf("after a request that has seen frames sent again: %d bytes", got)
		}
	})
}

// TestLink_Gap_IsAskedForAgain counts requests for bytes that come late, or do not come.
func TestLink_Gap_IsAskedForAgain(t *testing.T) {
	for _, filled := range []bool{false, true} {
		onPair(t, nil, func(t *testing.T, p *testPair) {
			time.Sleep(settle)
			asked := 0
			p.b.setCarry(func(frame []byte) bool {
				if frame[1]&flagGap != 0 {
					asked++
				}
				return false
			})
			handle := func(from, to int) {
				h := header{sender: p.a.link.id, receiver: p.b.link.id, generation: 1, offset: uint64(from), sentAt: 1}
				p.b.link.Handle(append(appendHeader(nil, &h), make([]byte, to-from)...))
			}
			handle(0, 10) // is acknowledged after 1 ms
			time.Sleep(500 * time.Microsecond)
			handle(20, 30) // is asked for at once
			time.Sleep(100 * time.Microsecond)
			handle(30, 40) // is asked for again 1 ms after the first time
			time.Sleep(700 * time.Microsecond)
			want := 2
			if filled {
				handle(10, 20)
				want = 1
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if asked != want {
				t.Errorf("filled %v: asked %d times, want %d", filled, asked, want)
			}
		})
	}
}

// TestLink_LostAck loses all acknowledgements for a time.
func TestLink_LostAck(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		p.b.setCarry(loseAll)
		p.a.write(numbered(5000))
		p.b.wantReceived(time.Second, numbered(5000))
		p.b.setCarry(nil)
		p.b.wantReceived(time.Second, numbered(5000))
		a, b := p.a.link.Stats(), p.b.link.Stats()
		if a.UnderWay != 0 || b.Duplicates == 0 {
			t.Errorf("%d bytes are under way, %d duplicates", a.UnderWay, b.Duplicates)
		}
		if a.Resent > 3*testMaxFrame {
			t.Errorf("%d bytes are sent again to a side that does not answer", a.Resent)
		}
	})
}

func TestLink_Acks_AreFew(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		before := p.b.link.Stats().FramesOut
		const frames = 40
		p.a.write(numbered(frames * p.a.link.maxPayload))
		time.Sleep(settle)
		if got := p.b.link.Stats().FramesOut - before; got != frames/maxUnackedFrames {
			t.Errorf("%d frames are acknowledged by %d", frames, got)
		}
		begin := time.Now()
		p.a.write([]byte("one frame"))
		for p.a.link.Stats().UnderWay > 0 || p.a.link.Stats().Waiting > 0 {
			time.Sleep(10 * time.Microsecond)
		}
		if got, want := time.Since(begin), 2*testDelay+time.Millisecond; got < want || got > want+20*time.Microsecond {
			t.Errorf("one frame is acknowledged after %v, want %v", got, want)
		}
	})
}

// TestLink_Handle_Overlap gives a link parts of the stream that overlap.
func TestLink_Handle_Overlap(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		stream := numbered(100)
		frame := func(from, to int) []byte {
			h := header{sender: p.a.link.id, receiver: p.b.link.id, generation: 1, offset: uint64(from), sentAt: 1}
			return append(appendHeader(nil, &h), stream[from:to]...)
		}
		for _, part := range [][2]int{{0, 10}, {5, 15}, {2, 9}, {20, 30}, {0, 40}, {40, 100}, {0, 100}} {
			p.b.link.Handle(frame(part[0], part[1]))
		}
		if !bytes.Equal(p.b.received, stream) {
			t.Errorf("received are %x", p.b.received)
		}
		if s := p.b.link.Stats(); s.Duplicates != 2 || s.Gaps != 1 || s.Received != 100 {
			t.Errorf("counts are %+v", s)
		}
	})
}

// TestLink_Handle_Nonsense counts and drops frames of the right generation that cannot be.
func TestLink_Handle_Nonsense(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		p.a.write(numbered(100))
		time.Sleep(settle)
		a := p.a.link.id
		valid := header{sender: a, receiver: p.b.link.id, generation: 1, offset: 100, sentAt: 1}
		for i, change := range []func(h *header){
			func(h *header) { h.ack = 1 }, // nothing was sent
			func(h *header) { h.offset = 101 + maxWindow },
			func(h *header) { h.sender = p.b.link.id },
			func(h *header) { h.generation = 2 }, // of which this link knows nothing
			func(h *header) { h.sentAt = 0 },
		} {
			h := valid
			change(&h)
			p.b.link.Handle(append(appendHeader(nil, &h), 1, 2, 3))
			if got := p.b.link.Stats(); got.Invalid != uint64(i+1) || got.Received != 100 {
				t.Errorf("change %d: %+v", i, got)
			}
		}
		p.b.wantBroken()
		p.a.write([]byte{9})
		p.b.wantReceived(settle, append(numbered(100), 9))
	})
}

// TestLink_Handle_Predecessor gives a link frames for an earlier link, and of one.
func TestLink_Handle_Predecessor(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		p.a.write([]byte("stream"))
		time.Sleep(settle)
		h := header{sender: p.a.link.id + 1, generation: 1, sentAt: 1, offset: 6}
		p.b.link.Handle(append(appendHeader(nil, &h), "of another link"...))
		p.b.wantReceived(settle, []byte("stream"))
		p.b.wantBroken()
		if got := p.b.link.Stats().Stale; got != 1 {
			t.Errorf("%d stale frames", got)
		}
		h = header{sender: p.a.link.id, receiver: p.b.link.id + 1, generation: 4, sentAt: 1}
		p.b.link.Handle(append(appendHeader(nil, &h), "for another link"...))
		p.b.wantReceived(settle, nil)
		p.b.wantBroken(brokenStream{1, 0, ErrStateLost})
		if a, b := p.a.link.Generation(), p.b.link.Generation(); a != 5 || b != 5 {
			t.Errorf("generations %d and %d, want 5", a, b)
		}
	})
}

// TestLink_Stale_AnswersAreFew gives a link many frames of an older generation.
func TestLink_Stale_AnswersAreFew(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		p.b.link.Break(errTest)
		time.Sleep(settle)
		before := p.b.link.Stats().FramesOut
		h := header{sender: 77, generation: 1, sentAt: 1}
		for range 100 {
			p.b.link.Handle(appendHeader(nil, &h))
			time.Sleep(100 * time.Microsecond)
		}
		if got := p.b.link.Stats().FramesOut - before; got < 1 || got > 2 {
			t.Errorf("100 stale frames in 10 ms have %d answers", got)
		}
	})
}

// TestLink_OnEstablished_Breaks checks that data of a generation does not come after its end.
func TestLink_OnEstablished_Breaks(t *testing.T) {
	onPair(t, func(c *Config) { c.KeepAlive = time.Hour }, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		l := New(Config{
			MaxFrame: testMaxFrame,
			Send:     func([]byte) error { return nil },
			OnData:   func(data []byte) error { t.Errorf("%q comes after the end", data); return nil },
			OnBreak:  func(uint64, uint64, error) {},
		}, 0)
		l.config.OnEstablished = func() { l.Break(errTest) }
		h := header{sender: 5, generation: 1, sentAt: 1}
		l.Handle(append(appendHeader(nil, &h), "data"...))
		synctest.Wait()
		if got := l.Generation(); got != 2 {
			t.Errorf("the generation is %d", got)
		}
	})
}
