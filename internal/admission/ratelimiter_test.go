package admission

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a Peer that has ended its side or not.
type peer bool

func (p peer) PeerEnded() bool { return bool(p) }

func TestRateLimiter_NoRates_HasNoLimit(t *testing.T) {
	var bs BucketStore
	rl := bs.NewRateLimiter("alice", testAddr("192.0.2.1"), Rates{}, time.Now())
	if rl != nil {
		t.Fatal("there is a limiter")
	}
	if d, messages, bytes := rl.Delay(time.Now()), rl.MaxMessages(7), rl.MaxRead(); d != 0 || messages != math.MaxUint64 || bytes != 0 {
		t.Errorf("delay %v, up to %d messages, %d bytes", d, messages, bytes)
	}
}

// TestRateLimiter_StartAt_ChargesOnlyTheRest has a limiter begin in the middle of a connection.
func TestRateLimiter_StartAt_ChargesOnlyTheRest(t *testing.T) {
	var bs BucketStore
	now := time.Unix(0, 0)
	rl := bs.NewRateLimiter("alice", testAddr("192.0.2.1"), Rates{Messages: 10, Bytes: 1000}, now)
	defer bs.Release(rl, now)
	rl.StartAt(1000, 1<<20)
	if d := rl.Charge(1010, 1<<20+1000, now); d != 0 {
		t.Errorf("the burst is delayed by %v", d)
	}
	if d := rl.Charge(1011, 1<<20+1000, now); d != 100*time.Millisecond {
		t.Errorf("one message more is delayed by %v", d)
	}
}

// TestRateLimiter_Wait_KeepsRate sends as fast as a limiter lets it, for a minute.
func TestRateLimiter_Wait_KeepsRate(t *testing.T) {
	for name, rates := range map[string]Rates{"messages": {Messages: 10}, "bytes": {Bytes: 1000}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bs BucketStore
				rl := bs.NewRateLimiter("", testAddr("192.0.2.1"), rates, time.Now())
				messages, bytes := uint64(0), int64(0)
				for start := time.Now(); time.Since(start) < time.Minute; {
					messages, bytes = messages+1, bytes+100
					d := rl.Charge(messages, bytes, time.Now())
					for d > 0 {
						time.Sleep(d)
						d = rl.TakeOne(time.Now())
					}
				}
				if messages < 600 || messages > 612 { // and the burst of a second
					t.Errorf("%d messages in a minute, want 610", messages)
				}
			})
		})
	}
}

// TestRateLimiter_TakeOne_IsNotChargedTwice takes a message in advance, and then charges it.
func TestRateLimiter_TakeOne_IsNotChargedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bs BucketStore
		rl := bs.NewRateLimiter("alice", nil, Rates{Messages: 1, Bytes: 1}, time.Now())
		if d := rl.TakeOne(time.Now()); d != 0 {
			t.Fatalf("a full bucket delays for %v", d)
		}
		if n := rl.MaxMessages(0); n != 2 { // the one that was taken, and one more in any case
			t.Errorf("up to %d messages, want 2", n)
		}
		if d := rl.Charge(1, 1, time.Now()); d != 0 {
			t.Errorf("the delay is %v, want none", d)
		}
		if d := rl.TakeOne(time.Now()); d < time.Second {
			t.Errorf("the delay until the next one is %v, want a second", d)
		}
		if d := rl.Charge(2, 2, time.Now()); d != time.Second {
			t.Errorf("the delay after it was sent too early is %v, want a second", d)
		}
	})
}

// TestRateLimiter_Charge_KeepsAdvance charges nothing new between TakeOne and the message that was
// taken. That message must not be charged then.
func TestRateLimiter_Charge_KeepsAdvance(t *testing.T) {
	var bs BucketStore
	now := time.Unix(0, 0)
	rl := bs.NewRateLimiter("alice", nil, Rates{Messages: 1, Bytes: 1}, now)
	defer bs.Release(rl, now)
	if d := rl.TakeOne(now); d != 0 {
		t.Fatalf("a full bucket delays for %v", d)
	}
	for i, totals := range []uint64{0, 0, 1, 0, 1} {
		if d := rl.Charge(totals, int64(totals), now); d != 0 {
			t.Errorf("call %d: the delay is %v, want none", i, d)
		}
	}
	if d := rl.Charge(2, 2, now); d != time.Second {
		t.Errorf("the delay after one more is %v, want a second", d)
	}
}

// TestRateLimiter_Renew_InheritsDebt has a client connect again while its old connection, which
// has overdrawn its bucket, still waits. The new connection must wait as well once the old one
// has ended.
func TestRateLimiter_Renew_InheritsDebt(t *testing.T) {
	var bs BucketStore
	now, addr, rates := time.Unix(0, 0), testAddr("192.0.2.1"), Rates{Messages: 10}
	prev, current := bs.NewRateLimiter("", addr, rates, now), bs.NewRateLimiter("", addr, rates, now)
	if d := prev.Charge(20, 0, now); d != time.Second {
		t.Errorf("the delay is %v, want a second", d)
	}
	bs.Release(prev, now)
	if d := current.Charge(0, 0, now); d != 0 {
		t.Errorf("the delay before Renew is %v", d)
	}
	bs.Renew(current, now)
	if d := current.Delay(now); d != time.Second {
		t.Errorf("the delay after Renew is %v, want a second", d)
	}
}

// TestRateLimiter_WaitingPeer_IsInheritedOnceEnded checks from which waiting clients a new
// connection of their address inherits its bucket.
func TestRateLimiter_WaitingPeer_IsInheritedOnceEnded(t *testing.T) {
	now, addr, rates := time.Unix(0, 0), testAddr("192.0.2.1"), Rates{Messages: 10}
	for name, test := range map[string]struct {
		subject string
		peer    peer
		stopped bool
		want    time.Duration
	}{
		"it has ended its side":     {"", true, false, time.Second},
		"it is still there":         {"", false, false, 0},
		"it does not wait any more": {"", true, true, 0},
		"its subject has a bucket":  {"alice", false, false, time.Second},
	} {
		var bs BucketStore
		waiting := bs.NewRateLimiter(test.subject, addr, rates, now)
		waiting.Charge(20, 0, now)
		bs.StartWait(waiting, test.peer)
		if test.stopped {
			bs.StopWait(waiting)
		}
		next := bs.NewRateLimiter(test.subject, addr, rates, now)
		if d := next.Delay(now); d != test.want {
			t.Errorf("%s: the delay of a new connection is %v, want %v", name, d, test.want)
		}
		if !test.stopped {
			bs.StopWait(waiting)
		}
		bs.Release(waiting, now)
		bs.Release(next, now)
	}
}

// TestRateLimiter_MaxMessagesAndRead_FollowTokens checks how much is handled at once with a full
// bucket, an overdrawn one, and at a high rate.
func TestRateLimiter_MaxMessagesAndRead_FollowTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			rates    Rates
			messages uint64 // charged
			bytes    int64
			want     uint64 // messages beyond those
			wantRead int
		}{
			"full":        {Rates{20, 40_000}, 0, 0, 20, 40_000},
			"overdrawn":   {Rates{20, 40_000}, 50, 100_000, 1, minReadSize},
			"fast":        {Rates{1e5, 1e9}, 200_000, 2e9, 1000, maxReadSize},
			"bytes only":  {Rates{Bytes: 2000}, 5, 0, math.MaxUint64 - 5, 2000},
			"slow":        {Rates{0.5, 1}, 0, 0, 1, minReadSize},
			"few to read": {Rates{20, 40_000}, 15, 38_000, 5, 2000},
		} {
			var bs BucketStore
			rl := bs.NewRateLimiter("alice", nil, test.rates, time.Now())
			rl.Charge(test.messages, test.bytes, time.Now())
			if got := rl.MaxMessages(test.messages); got-test.messages != test.want {
				t.Errorf("%s: %d more messages, want %d", name, got-test.messages, test.want)
			}
			if got := rl.MaxRead(); got != test.wantRead {
				t.Errorf("%s: read %d bytes, want %d", name, got, test.wantRead)
			}
		}
	})
}
