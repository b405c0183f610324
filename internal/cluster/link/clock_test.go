package link

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPeerClock(t *testing.T) {
	var c peerClock
	if got := c.now(1000); got != 0 {
		t.Errorf("an unknown clock shows %d", got)
	}
	type sample struct{ now, sentAt, want int64 }
	for _, s := range []sample{
		{5000, 1000, 1000},         // the difference is 4000
		{5100, 1200, 1200},         // 3900: a faster frame
		{9100, 5000, 5200},         // 4100: a slower one was sent 200 µs ago, at most
		{clockBucket + 5200, 1, 0}, // begins a bucket
		{2*clockBucket + 5300, 2*clockBucket + 1200, 2*clockBucket + 1200}, // 3900 is forgotten
	} {
		c.add(s.now, s.sentAt)
		if got := c.now(s.now); s.want != 0 && got != s.want {
			t.Errorf("at %d the other clock shows %d, want %d", s.now, got, s.want)
		}
	}
}

// TestPeerClock_Previous keeps a fast frame for one bucket, and forgets it after two.
func TestPeerClock_Previous(t *testing.T) {
	var c peerClock
	c.add(100, 100)
	c.add(clockBucket+150, clockBucket+100)
	if got := c.now(1000); got != 1000 {
		t.Errorf("in the next bucket: %d, want 1000", got)
	}
	c.add(2*clockBucket+250, 2*clockBucket+200)
	if got := c.now(1000); got != 950 {
		t.Errorf("after the next bucket: %d, want 950", got)
	}
}

func TestRoundTrip(t *testing.T) {
	var r roundTrip
	for _, s := range []struct{ now, echo, delay, last, smoothed int64 }{
		{1000, 100, 100, 800, 800},
		{1200, 200, 200, 800, 800},
		{2000, 300, 100, 1600, 900},
		{9000, 300, 100, 1600, 900},                         // an echo that was used
		{9000, 250, 100, 1600, 900},                         // an older one
		{maxRTT + 500, 400, 10, 1600, 900},                  // too long
		{1000, 900, 200, 1600, 900},                         // before it was sent
		{500_000, 400, maxEchoDelay + 1, 1600, 900},         // measured by the other clock
		{500_000, 1000, maxEchoDelay, 399_000, 900 + 49762}, // (399_000 - 900) / 8
	} {
		r.add(s.now, s.echo, s.delay)
		if r.last != s.last || r.smoothed != s.smoothed {
			t.Errorf("after %+v: %+v", s, r)
		}
	}
}

// TestLink_PeerNow checks the clock of a link, and that of its successor, which begins anew.
func TestLink_PeerNow(t *testing.T) {
	onPair(t, nil, func(t *testing.T, p *testPair) {
		if got := p.b.link.PeerNow(); got != 0 {
			t.Errorf("before the first frame: %d", got)
		}
		for range 2 {
			time.Sleep(settle)
			for range 20 {
				time.Sleep(7 * time.Second)
				synctest.Wait()
				behind := p.a.link.Now() - p.b.link.PeerNow()
				if delay := testDelay.Microseconds(); behind < delay-1 || behind > delay+1 {
					t.Errorf("the clock of the other side is behind by %d µs, want %d", behind, delay)
				}
			}
			p.a.end()
			p.a.start(p.b, nil, 0)
		}
	})
}
