package link

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// settle is a time after which all that can happen without a loss has happened.
const settle = 10 * time.Millisecond

func TestLink_Streams(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		toB, toA := numbered(100_000), numbered(5000)
		p.a.write(toB[:10])
		p.a.write(toB[10:])
		p.b.write(toA)
		p.b.wantReceived(settle, toB)
		p.a.wantReceived(0, toA)
		for _, s := range []*side{p.a, p.b} {
			if s.established != 1 {
				t.Errorf("established %d times", s.established)
			}
			s.wantBroken()
			stats := s.link.Stats()
			if stats.UnderWay != 0 || stats.Waiting != 0 || stats.Lag != 0 || stats.Acked != stats.Appended || stats.Sent != stats.Appended {
				t.Errorf("not all is acknowledged: %+v", stats)
			}
			if stats.Resent+stats.Gaps+stats.Duplicates+stats.Invalid+stats.Stale+stats.Timeouts != 0 {
				t.Errorf("something went wrong: %+v", stats)
			}
			if stats.RTT < 2*testDelay || stats.RTT > 2*testDelay+3*time.Microsecond {
				t.Errorf("the round trip takes %v", stats.RTT)
			}
		}
	})
}

func TestLink_Append_DoesNotSend(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		time.Sleep(settle)
		generation, end := p.a.link.Append([]byte("head"), body.Get(10), 2, 8)
		if generation != 1 || end != 10 {
			t.Errorf("appended to generation %d up to %d", generation, end)
		}
		p.b.wantReceived(settle, nil)
		if stats := p.a.link.Stats(); stats.Waiting != 10 || stats.Lag != settle {
			t.Errorf("%d bytes wait for %v", stats.Waiting, stats.Lag)
		}
		p.a.link.Flush()
		synctest.Wait()
		time.Sleep(settle)
		if got := p.b.link.Stats().Received; got != 10 {
			t.Errorf("received %d bytes", got)
		}
	})
}

// TestLink_Buffer_RetainedUntilAcknowledged appends a part that is sent by reference.
func TestLink_Buffer_RetainedUntilAcknowledged(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		buffer := body.Get(3 * maxCopy)
		defer buffer.Release()
		copy(buffer.Bytes(), numbered(3*maxCopy))
		p.b.setCarry(loseAll)
		p.a.link.Append(nil, buffer, maxCopy/2, 3*maxCopy)
		p.a.link.Flush()
		time.Sleep(settle)
		if !buffer.Shared() {
			t.Error("released before the acknowledgement")
		}
		p.b.setCarry(nil)
		p.b.wantReceived(3*time.Second, buffer.Bytes()[maxCopy/2:3*maxCopy])
		if buffer.Shared() {
			t.Error("retained after the acknowledgement")
		}
		p.a.link.Append(nil, buffer, 0, 3*maxCopy)
		p.a.link.Break(errTest)
		if buffer.Shared() {
			t.Error("retained after the break")
		}
	})
}

func TestLink_Break(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		p.a.write(numbered(3000))
		p.b.wantReceived(settle, numbered(3000))
		p.a.link.Append(numbered(500), nil, 0, 0)
		p.a.link.Break(errTest)
		if generation, end := p.a.write([]byte("new")); generation != 2 || end != 3 {
			t.Errorf("appended to generation %d up to %d", generation, end)
		}
		p.b.wantReceived(settle, []byte("new"))
		p.a.wantBroken(brokenStream{1, 3000, errTest})
		p.b.wantBroken(brokenStream{1, 0, ErrPeerRestarted})
		if p.a.established != 2 || p.b.established != 2 {
			t.Errorf("established %d and %d times", p.a.established, p.b.established)
		}
	})
}

// TestLink_Break_BothSides has both sides choose a generation at once, the same one or not.
func TestLink_Break_BothSides(t *testing.T) {
	for _, breaks := range [][2]int{{1, 1}, {1, 2}, {3, 1}} {
		onPair(t, nil, func(t *testing.T, p *testPair) {
			time.Sleep(settle)
			for range breaks[0] {
				p.a.link.Break(errTest)
			}
			for range breaks[1] {
				p.b.link.Break(errTest)
			}
			p.a.write([]byte("a"))
			p.b.write([]byte("b"))
			time.Sleep(settle)
			p.a.write([]byte("a"))
			p.b.write([]byte("b"))
			time.Sleep(settle)
			want := uint64(1 + max(breaks[0], breaks[1]))
			if a, b := p.a.link.Generation(), p.b.link.Generation(); a != want || b != want {
				t.Errorf("after %v breaks: generations %d and %d, want %d", breaks, a, b, want)
			}
			if got := len(p.a.received) * len(p.b.received); got < 1 {
				t.Errorf("after %v breaks: nothing arrives", breaks)
			}
		})
	}
}

// TestLink_Break_InCallbacks breaks both streams within OnData, and by its error.
func TestLink_Break_InCallbacks(t *testing.T) {
	for name, onData := range map[string]func(l *Link) error{
		"Break": func(l *Link) error { l.Break(errTest); return nil },
		"error": func(*Link) error { return errTest },
	} {
		t.Run(name, func(t *testing.T) {
			onPair(t, nil, func(t *testing.T, p *testPair) {
				p.b.onData = func(data []byte) error {
					if string(data) == "nonsense" {
						return onData(p.b.link)
					}
					return nil
				}
				p.a.write([]byte("nonsense"))
				time.Sleep(settle)
				p.b.wantBroken(brokenStream{1, 0, errTest})
				p.a.wantBroken(brokenStream{1, 8, ErrPeerRestarted})
				p.a.write([]byte("sense"))
				p.b.wantReceived(settle, []byte("sense"))
			})
		})
	}
}

// TestLink_Append_DuringBreaks appends from several goroutines while others break the streams. The
// generations that Append returns account for each byte.
func TestLink_Append_DuringBreaks(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		const writers, records, size = 4, 500, 8
		var wg sync.WaitGroup
		var mu sync.Mutex
		ends := make(map[uint64]uint64)
		for range writers {
			wg.Go(func() {
				for i := range records {
					generation, end := p.a.write(make([]byte, size))
					mu.Lock()
					ends[generation] = max(ends[generation], end)
					mu.Unlock()
					if i%10 == 0 {
						time.Sleep(testDelay)
					}
				}
			})
		}
		for _, s := range []*side{p.a, p.b} {
			wg.Go(func() {
				for range 20 {
					s.link.Break(errTest)
					time.Sleep(3 * testDelay)
				}
			})
		}
		wg.Wait()
		time.Sleep(settle)
		var total uint64
		for _, end := range ends {
			total += end
		}
		last := p.a.link.Generation()
		if want := uint64(writers * records * size); total != want || uint64(len(p.b.received)) != ends[last] {
			t.Errorf("the generations have %d bytes, want %d; %d of %d arrive in the last one", total, want, len(p.b.received), ends[last])
		}
		for _, b := range p.a.broken {
			if b.sent > ends[b.generation] {
				t.Errorf("of %d bytes in generation %d, %d are sent", ends[b.generation], b.generation, b.sent)
			}
		}
		if len(p.a.broken) < 20 || last < 20 {
			t.Errorf("%d breaks, generation %d", len(p.a.broken), last)
		}
	})
}

// TestLink_Restart replaces one side, which begins in any generation.
func TestLink_Restart(t *testing.T) {
	for _, generation := range []uint64{0, 2, 7} {
		onPair(t, nil, func(t *testing.T, p *testPair) {
			p.a.write(numbered(2000))
			p.b.write(numbered(2000))
			time.Sleep(settle)
			p.a.end()
			p.a.wantBroken(brokenStream{1, 2000, ErrEnded})
			p.a.handleBreak(0, 0, nil)
			p.a.start(p.b, nil, generation)
			time.Sleep(settle)
			if a, b := p.a.link.Generation(), p.b.link.Generation(); a != b || b < 2 {
				t.Errorf("from %d: generations %d and %d", generation, a, b)
			}
			p.b.wantBroken(brokenStream{1, 2000, ErrPeerRestarted})
			p.a.write([]byte("from a"))
			p.b.write([]byte("from b"))
			p.a.wantReceived(settle, []byte("from b"))
			p.b.wantReceived(0, []byte("from a"))
		})
	}
}

// TestLink_Ended checks that a link that has ended keeps nothing.
func TestLink_Ended(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		buffer := body.Get(2 * maxCopy)
		defer buffer.Release()
		p.b.setCarry(loseAll)
		p.a.link.Append(nil, buffer, 0, 2*maxCopy)
		time.Sleep(settle)
		sent := p.a.link.Stats().UnderWay
		p.a.end()
		p.a.wantBroken(brokenStream{1, sent, ErrEnded})
		if generation, end := p.a.link.Append(nil, buffer, 0, 2*maxCopy); generation != 0 || end != 0 {
			t.Errorf("appended to generation %d up to %d", generation, end)
		}
		if buffer.Shared() {
			t.Error("the buffer is retained")
		}
		p.a.link.Break(errTest)
		p.a.link.Handle(appendHeader(nil, &header{sender: 1, generation: 5, sentAt: 1}))
		p.a.wantBroken(brokenStream{1, sent, ErrEnded})
		p.a.start(p.b, nil, 0)
	})
}

func TestNew_PanicsWithoutRoom(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	New(Config{Prefix: testPrefix, MaxFrame: headerSize + len(testPrefix)}, 0)
}
