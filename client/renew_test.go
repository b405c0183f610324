package client

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/sechlol/go-message-hub/wire"
)

// wallClock is a clock that can be set while timers go on, as after a sleep of the machine or
// when the clock was wrong. In a synctest bubble a time has no monotonic clock reading.
type wallClock struct{ ahead atomic.Int64 }

func (c *wallClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// TestRenewal_BeforeExpiry has a hub that announces the lifetime of the token, and checks when
// the client reconnects with the next one.
func TestRenewal_BeforeExpiry(t *testing.T) {
	failure := errors.New("no token today")
	for name, test := range map[string]struct {
		good  time.Duration                             // lifetime of the token
		jump  time.Duration                             // of the wall clock, at the start
		token func(since time.Duration) (string, error) // GetToken after the first call
		min   time.Duration
		max   time.Duration // 0: the client does not reconnect
	}{
		"in the last fifth": {
			good: 100 * time.Second, token: func(time.Duration) (string, error) { return "new", nil },
			min: 80 * time.Second, max: 80 * time.Second,
		},
		"a minute before": {
			good: 8 * time.Hour, token: func(time.Duration) (string, error) { return "new", nil },
			min: 8*time.Hour - time.Minute, max: 8*time.Hour - time.Minute,
		},
		"when there is a new token": {
			good: 100 * time.Second, token: tokenAfter(95*time.Second, "old", nil),
			min: 95 * time.Second, max: 100 * time.Second,
		},
		"when GetToken works again": {
			good: 100 * time.Second, token: tokenAfter(90*time.Second, "", failure),
			min: 90 * time.Second, max: 100 * time.Second,
		},
		"not with the same token": {good: 100 * time.Second, token: tokenAfter(time.Hour, "old", nil)},
		"not without a new token": {good: 100 * time.Second, token: tokenAfter(time.Hour, "", failure)},
		"not without an expiry":   {token: func(time.Duration) (string, error) { return "new", nil }},
		"after a sleep":           {good: 8 * time.Hour, jump: 9 * time.Hour, token: tokenAfter(0, "", nil), max: maxClockCheckInterval},
		"after a sleep, and late": {good: 8 * time.Hour, jump: 8*time.Hour - time.Second, token: tokenAfter(0, "", nil), max: maxClockCheckInterval},
		"a clock that is set back": {
			good: time.Hour, jump: -time.Hour, token: tokenAfter(0, "", nil),
			min: 2*time.Hour - time.Minute, max: 2*time.Hour - time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock, begin, first := new(wallClock), time.Now(), true
				w := testWelcome
				w.Keepalive, w.Expires = 1<<30, test.good.Milliseconds()
				tc, h := newTestClientWith(t, wire.Hello{Version: wire.Version2, Token: "old"}, w, func(o *Options) {
					o.now = clock.now
					o.GetToken = func(context.Context) (string, error) {
						if first {
							first = false
							return "old", nil
						}
						return test.token(time.Since(begin))
					}
				})
				clock.ahead.Store(int64(test.jump))
				go h.serve(nil) // ends with the connection
				select {
				case h := <-tc.hubs:
					if took := time.Since(begin); took < test.min || took > test.max {
						t.Errorf("reconnected after %v, want from %v to %v", took, test.min, test.max)
					}
					back := wire.Hello{Version: wire.Version2, Token: "new", ID: w.ID, Resume: w.Resume}
					h.acceptHello(&back, resumedWelcome(func(*wire.Welcome) {}))
					if e := tc.wantEvent(EventDisconnected); !errors.Is(e.Err, errTokenRenewed) {
						t.Errorf("the event has %v", e.Err)
					}
					tc.wantEvent(EventResumed)
				case <-time.After(24 * time.Hour):
					if test.max > 0 {
						t.Error("the client does not reconnect")
					}
				}
			})
		})
	}
}

// tokenAfter returns a token source that returns "new" after a duration, and before and err
// until then.
func tokenAfter(after time.Duration, before string, err error) func(time.Duration) (string, error) {
	return func(since time.Duration) (string, error) {
		if since >= after {
			return "new", nil
		}
		return before, err
	}
}

// TestRenewal_StopsWithConnection loses the connection, or closes the client, while GetToken
// runs. Close waits for GetToken, and GetToken never runs twice at the same time.
func TestRenewal_StopsWithConnection(t *testing.T) {
	for name, end := range map[string]func(tc *testClient, h *fakeHub){
		"by Close":   func(tc *testClient, _ *fakeHub) { tc.client.Close() },
		"by the hub": func(_ *testClient, h *fakeHub) { h.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := testWelcome
				w.Keepalive, w.Expires = 1<<30, 100_000
				asking, asked := new(atomic.Int32), 0
				tc, h := newTestClientWith(t, wire.Hello{Version: wire.Version2, Token: "old"}, w, func(o *Options) {
					o.GetToken = func(ctx context.Context) (string, error) {
						if asking.Add(1) > 1 {
							t.Error("GetToken runs twice at the same time")
						}
						defer asking.Add(-1)
						if asked++; asked == 2 {
							<-ctx.Done()
							return "", ctx.Err()
						}
						return "old", nil
					}
				})
				go h.serve(nil) // ends with the connection
				time.Sleep(90 * time.Second)
				end(tc, h)
				if name == "by Close" {
					if n := asking.Load(); n != 0 {
						t.Error("GetToken still runs")
					}
					return
				}
				h = <-tc.hubs
				h.acceptHello(&wire.Hello{Version: wire.Version2, Token: "old", ID: w.ID, Resume: w.Resume}, resumedWelcome(func(*wire.Welcome) {}))
				tc.wantEvent(EventDisconnected)
				tc.wantEvent(EventResumed)
			})
		})
	}
}

// afterSleep returns the time that time.Now returns after the wall clock has jumped by whole
// seconds and the monotonic clock has not. The only way to make such a time is to know its
// memory layout.
func afterSleep(jump time.Duration) time.Time {
	t := time.Now()
	const secondsShift = 30
	(*struct{ wall uint64 })(unsafe.Pointer(&t)).wall += uint64(jump/time.Second) << secondsShift
	return t
}

// TestRenewal_TimeLeftAfterSleep: timeLeft uses the wall clock, even if the times have a
// monotonic clock reading.
func TestRenewal_TimeLeftAfterSleep(t *testing.T) {
	jump := time.Duration(0)
	options := &Options{now: func() time.Time { return afterSleep(jump) }}
	r := startRenewal(nil, options, &lifetime{ctx: t.Context()}, "", 8*time.Hour)
	r.stop()
	for _, jump = range []time.Duration{0, time.Hour, 9 * time.Hour, -time.Hour} {
		want := 8*time.Hour - jump
		if got := r.timeLeft(); got > want || got < want-time.Minute {
			t.Errorf("after a jump by %v: %v left, want %v", jump, got, want)
		}
	}
}
