package link

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// TestLink_LostTail loses the last frame, after which no gap shows.
func TestLink_LostTail(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		p.a.setCarry(lose(2))
		p.a.write(numbered(2500))
		first := numbered(2500)[:2*p.a.link.maxPayload]
		p.b.wantReceived(190*time.Millisecond, first)
		p.b.wantReceived(20*time.Millisecond, numbered(2500))
		if got := p.a.link.Stats().Timeouts; got != 1 {
			t.Errorf("%d timeouts", got)
		}
	})
}

// TestLink_NoAnswer_DoesNotFlood counts the frames to a side that does not answer, from the begin
// and later.
func TestLink_NoAnswer_DoesNotFlood(t *testing.T) {
	for _, established := range []bool{false, true} {
		onPair(t, nil, func(t *testing.T, p *testPair) {
			if established {
				time.Sleep(settle)
			}
			p.a.setCarry(loseAll)
			p.b.setCarry(loseAll)
			p.a.link.Append(numbered(100_000), nil, 0, 0)
			if established {
				p.a.link.Flush()
				time.Sleep(settle)
			}
			before := p.a.link.Stats().FramesOut
			time.Sleep(10 * time.Second)
			if got := p.a.link.Stats().FramesOut - before; got < 10 || got > 14 { // after 0.2, 0.6, 1.4, 2.4 s …
				t.Errorf("established %v: %d frames in 10 s", established, got)
			}
			if got := p.a.link.Stats(); !established && got.Sent > testMaxFrame {
				t.Errorf("%d bytes are sent before the other side has answered", got.Sent)
			}
			p.a.setCarry(nil)
			p.b.setCarry(nil)
			p.b.wantReceived(2*time.Second, numbered(100_000))
		})
	}
}

// TestLink_FirstAnswer_WithoutAck establishes a link by an answer that acknowledges nothing, while
// data is on its way that is lost.
func TestLink_FirstAnswer_WithoutAck(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		p.a.setCarry(lose(0))
		p.b.setCarry(func(frame []byte) bool { return !bytes.Equal(frame[6:10], make([]byte, 4)) }) // no syn
		synctest.Wait()
		p.a.write([]byte("lost once"))
		p.b.wantReceived(time.Second, []byte("lost once"))
	})
}

// TestLink_Begin_IsAnswered establishes one side before the other.
func TestLink_Begin_IsAnswered(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		p.a.setCarry(loseAll)
		time.Sleep(100 * time.Millisecond)
		p.a.setCarry(nil)
		if a, b := p.a.link.Stats(), p.b.link.Stats(); !a.Established || b.Established {
			t.Errorf("established are %v and %v", a.Established, b.Established)
		}
		time.Sleep(110 * time.Millisecond)
		if !p.b.link.Stats().Established {
			t.Error("the other side is not established")
		}
	})
}

// TestLink_LateAnswer delays all frames so that no answer comes in time, and loses none.
func TestLink_LateAnswer(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		p.a.setDelay(300 * time.Millisecond)
		p.a.write(numbered(50_000))
		p.b.wantReceived(310*time.Millisecond, numbered(50_000))
		if s := p.a.link.Stats(); s.Timeouts != 1 || s.Resent != uint64(p.a.link.maxPayload) {
			t.Errorf("%d timeouts, %d bytes are sent again", s.Timeouts, s.Resent)
		}
	})
}

// TestLink_LateAnswer_WithGap gives a link that has gone back a late answer that misses something.
func TestLink_LateAnswer_WithGap(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		p.a.setCarry(loseAll)
		p.b.setCarry(loseAll)
		before := p.a.link.Now()
		p.a.write(numbered(5000))
		time.Sleep(250 * time.Millisecond)
		payload := uint64(p.a.link.maxPayload)
		h := header{flags: flagGap, sender: p.b.link.id, receiver: p.a.link.id, generation: 1, ack: payload, sentAt: before, echo: before}
		p.a.link.Handle(appendHeader(nil, &h))
		synctest.Wait()
		if got, want := p.a.link.Stats().Resent, payload+5000-payload; got != want {
			t.Errorf("%d bytes are sent again, want %d", got, want)
		}
	})
}

// TestLink_SendError checks that a frame counts as sent only if Send returns no error.
func TestLink_SendError(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		p.a.write(numbered(100))
		time.Sleep(settle)
		p.a.setSendErr(errTest)
		before := p.a.link.Stats()
		p.a.write(numbered(5000))
		time.Sleep(time.Second)
		if s := p.a.link.Stats(); s.SendErrors < 15 || s.SendErrors > 21 || s.UnderWay != 0 || s.Waiting != 5000 || s.Sent != before.Sent || s.FramesOut != before.FramesOut {
			t.Errorf("counts are %+v", s)
		}
		p.a.link.Break(errTest)
		p.a.write([]byte("new"))
		p.a.wantBroken(brokenStream{1, 100, errTest})
		p.a.setSendErr(nil)
		p.b.wantReceived(settle+50*time.Millisecond, []byte("new"))
		if got := p.a.link.Stats().Sent; got != 100+3 {
			t.Errorf("%d bytes are sent", got)
		}
	})
}

// TestLink_SendError_KeepsAck fails to send an acknowledgement.
func TestLink_SendError_KeepsAck(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		p.b.setSendErr(errTest)
		p.a.write(numbered(100))
		time.Sleep(settle)
		p.b.setSendErr(nil)
		time.Sleep(60 * time.Millisecond)
		if s := p.a.link.Stats(); s.UnderWay != 0 || s.Timeouts != 0 {
			t.Errorf("%d bytes are under way, %d timeouts", s.UnderWay, s.Timeouts)
		}
	})
}

func TestLink_KeepAlive(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		before, began := p.a.link.Stats(), time.Now()
		time.Sleep(61 * time.Second)
		s := p.a.link.Stats()
		if out, in := s.FramesOut-before.FramesOut, s.FramesIn-before.FramesIn; out < 12 || out > 26 || in < 12 || in > 26 {
			t.Errorf("in %v without data, %d frames go and %d come", time.Since(began), out, in)
		}
		if s.RTT < 2*testDelay || s.RTT > 2*testDelay+3*time.Microsecond || p.a.link.rtt.echo < before.RTT.Microseconds()+50_000_000 {
			t.Errorf("the round trip was %v, measured after %d µs", s.RTT, p.a.link.rtt.echo)
		}
	})
}

// TestLink_Run_StopsWhileBusy stops a link that always has something to send.
func TestLink_Run_StopsWhileBusy(t *testing.T) {
	var l *Link
	stop := make(chan struct{})
	frames := 0
	l = New(Config{
		MaxFrame: testMaxFrame, OnData: func([]byte) error { return nil }, OnBreak: func(uint64, uint64, error) {}, OnEstablished: func() {},
		Send: func([]byte) error {
			if frames++; frames == 10 {
				close(stop)
			}
			l.Break(errTest) // which has another frame sent
			return nil
		},
	}, 0)
	l.Run(stop)
	if frames != 10 {
		t.Errorf("%d frames are sent", frames)
	}
}

// TestLink_Frames_AllocateNothing sends records, small and large, handles their frames at the other
// link, and the acknowledgements.
func TestLink_Frames_AllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items under the race detector")
	}
	a, b := newIdleLink(), newIdleLink()
	prefix := make([]byte, 0, 64<<10)
	exchange := func() {
		for sent := true; sent; {
			sent = carryFrame(a, b, prefix)
			sent = carryFrame(b, a, prefix) || sent
		}
	}
	exchange()
	record, buffer := make([]byte, 128), body.Get(200_000)
	defer buffer.Release()
	n := testing.AllocsPerRun(1000, func() {
		for range 100 {
			a.Append(record, buffer, 0, 100)
		}
		a.Append(record, buffer, 0, 200_000)
		b.Append(record, nil, 0, 0)
		a.Flush()
		exchange()
		b.sendFrame()
		exchange()
	})
	if n != 0 {
		t.Errorf("an exchange allocates %v times", n)
	}
	if s := a.Stats(); s.UnderWay != 0 || s.Acked < 1000*200_000 || s.Timeouts != 0 {
		t.Errorf("the links have not worked: %+v", s)
	}
}

// newIdleLink returns a link without Run.
func newIdleLink() *Link {
	return New(Config{
		MaxFrame: 64 << 10, MinRetransmit: time.Hour, MaxRetransmit: time.Hour,
		OnData: func([]byte) error { return nil }, OnBreak: func(uint64, uint64, error) {}, OnEstablished: func() {},
	}, 0)
}

// carryFrame composes one frame and has it handled. It returns false if there is none.
func carryFrame(from, to *Link, prefix []byte) bool {
	s, due := from.compose(prefix)
	if due {
		to.Handle(s.frame)
		from.handleSent(&s, nil)
	}
	return due
}

// TestLink_LargeRecord checks that a record of any size crosses in frames of the maximum size.
func TestLink_LargeRecord(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		before := p.a.link.Stats().FramesOut
		buffer := body.Get(1 << 20)
		defer buffer.Release()
		copy(buffer.Bytes(), numbered(1<<20))
		p.a.link.Append([]byte("head"), buffer, 0, 1<<20)
		p.a.link.Flush()
		p.b.wantReceived(settle, append([]byte("head"), numbered(1<<20)...))
		synctest.Wait()
		payload := uint64(p.a.link.maxPayload)
		if got, want := p.a.link.Stats().FramesOut-before, (4+1<<20+payload-1)/payload; got != want {
			t.Errorf("%d frames are sent, want %d", got, want)
		}
	})
}
