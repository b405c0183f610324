package client

import (
	"context"
	"errors"
	"strconv"
	"strings"
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
	r := startRenewal(nil, options, &lifetime{ctx: t.Context()}, "", 8*time.Hour, false)
	r.stop()
	for _, jump = range []time.Duration{0, time.Hour, 9 * time.Hour, -time.Hour} {
		want := 8*time.Hour - jump
		if got := r.timeLeft(); got > want || got < want-time.Minute {
			t.Errorf("after a jump by %v: %v left, want %v", jump, got, want)
		}
	}
}

// renewTest is a client whose token expires, and its hub, which takes RENEW. GetToken returns
// "old" first, and afterwards the result of next.
type renewTest struct {
	*testClient
	hub *fakeHub
}

// withRenewals runs f in a synctest bubble. The token is valid for 100 s.
func withRenewals(t *testing.T, next func(ctx context.Context) (string, error), f func(t *testing.T, rt *renewTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, first := testWelcome, true
		w.Keepalive, w.Expires, w.Renew = 1<<30, 100_000, true
		tc, h := newTestClientWith(t, wire.Hello{Version: wire.Version2, Token: "old"}, w, func(o *Options) {
			o.GetToken = func(ctx context.Context) (string, error) {
				if first {
					first = false
					return "old", nil
				}
				return next(ctx)
			}
		})
		f(t, &renewTest{tc, h})
	})
}

// wantRenew reads the next frame, which must be a RENEW with that token. It must come after that
// time.
func (rt *renewTest) wantRenew(token string, after time.Duration) {
	rt.t.Helper()
	begin := time.Now()
	payload, _ := rt.hub.wantType(wire.TypeRenew)
	if r, err := wire.ParseRenew(payload); err != nil || r.Token != token {
		rt.t.Errorf("RENEW with %q, want %q: %v", r.Token, token, err)
	}
	if took := time.Since(begin); took != after {
		rt.t.Errorf("RENEW after %v, want %v", took, after)
	}
}

// wantReconnect takes the next connection, on which the client must resume with that token.
func (rt *renewTest) wantReconnect(token string) {
	rt.t.Helper()
	rt.hub = <-rt.hubs
	rt.hub.acceptHello(&wire.Hello{Version: wire.Version2, Token: token, ID: 7, Resume: "secret"}, resumedWelcome(func(*wire.Welcome) {}))
	rt.wantEvent(EventDisconnected)
	rt.wantEvent(EventResumed)
}

// counter returns a token source that returns "1", "2" and so on.
func counter() func(context.Context) (string, error) {
	n := 0
	return func(context.Context) (string, error) { n++; return strconv.Itoa(n), nil }
}

// TestRenewal_OnConnection renews three tokens on one connection. The last one does not expire.
func TestRenewal_OnConnection(t *testing.T) {
	withRenewals(t, counter(), func(t *testing.T, rt *renewTest) {
		rt.wantRenew("1", 80*time.Second)
		if err := rt.client.Send(t.Context(), []uint64{1}, []byte("meanwhile")); err != nil {
			t.Error(err)
		}
		rt.hub.wantBytes(sendFrame(1, "meanwhile"))
		rt.hub.send(wire.AppendRenewed(nil, &wire.Renewed{Expires: 1000_000, MaxBody: 10}), wire.AppendAck(nil, 1))
		rt.wantRenew("2", 1000*time.Second-time.Minute)
		var tooLarge *BodyTooLargeError
		if err := rt.client.Send(t.Context(), []uint64{1}, make([]byte, 11)); !errors.As(err, &tooLarge) || tooLarge.Limit != 10 {
			t.Errorf("a body above max_body of RENEWED: %v", err)
		}
		rt.hub.send(wire.AppendRenewed(nil, &wire.Renewed{Expires: 100, MaxBody: 1000}))
		rt.wantRenew("3", time.Second) // a hub takes one RENEW in a second
		rt.hub.send(wire.AppendRenewed(nil, &wire.Renewed{MaxBody: 1000}))
		time.Sleep(24 * time.Hour)
		rt.hub.wantSilence()
		if len(rt.hubs) > 0 || len(rt.events) > 0 {
			t.Error("the application notices something")
		}
	})
}

// TestRenewal_Refused has the hub refuse tokens. The connection stays, and the client presents
// another token when half of the remaining time has passed. It presents the same token again only
// if the hub permits it.
func TestRenewal_Refused(t *testing.T) {
	for _, code := range []wire.ErrorCode{wire.ErrorTokenRefused, wire.ErrorTokenExpired, wire.ErrorRenewLater} {
		t.Run(code.String(), func(t *testing.T) {
			var calls int
			next := func(context.Context) (string, error) {
				if calls++; calls <= 2 {
					return "1", nil
				}
				return "2", nil
			}
			withRenewals(t, next, func(t *testing.T, rt *renewTest) {
				rt.wantRenew("1", 80*time.Second)
				rt.hub.send(wire.AppendError(nil, 0, code, "no"))
				if code == wire.ErrorRenewLater {
					rt.wantRenew("1", 10*time.Second)
					rt.hub.send(wire.AppendError(nil, 0, code, "no"))
					rt.wantRenew("2", 5*time.Second)
				} else {
					rt.wantRenew("2", 15*time.Second)
				}
				rt.hub.send(wire.AppendError(nil, 0, code, "no"))
				calls = 0 // from now on "1", which the hub has refused before
				rt.hub.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayExpired, Reconnect: true}))
				rt.hub.Close()
				if code == wire.ErrorRenewLater {
					rt.wantReconnect("2")
				} else {
					rt.wantReconnect("1")
				}
			})
		})
	}
}

// TestRenewal_WithoutAnswer_Reconnects loses the connection before the answer to RENEW, or the
// answer does not come. The client resumes with the new token.
func TestRenewal_WithoutAnswer_Reconnects(t *testing.T) {
	for name, end := range map[string]func(rt *renewTest){
		"no answer": func(rt *renewTest) {
			begin := time.Now()
			rt.hub.wantEOF()
			if took := time.Since(begin); took != 10*time.Second {
				rt.t.Errorf("waited for %v, want half of the remaining time", took)
			}
		},
		"a late answer": func(rt *renewTest) {
			time.Sleep(10*time.Second - 1)
			rt.hub.send(wire.AppendRenewed(nil, &wire.Renewed{MaxBody: 1})[:7]) // reading goes on until the frame is whole
			synctest.Wait()
			time.Sleep(time.Second)
			rt.hub.Close()
		},
		"connection lost": func(rt *renewTest) { rt.hub.Close() },
		"expired": func(rt *renewTest) {
			rt.hub.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayExpired, Reconnect: true}))
			rt.hub.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			withRenewals(t, counter(), func(t *testing.T, rt *renewTest) {
				rt.wantRenew("1", 80*time.Second)
				end(rt)
				rt.wantReconnect("1")
			})
		})
	}
}

// TestRenewal_OnConnection_Close closes the client while it waits for the answer to RENEW.
func TestRenewal_OnConnection_Close(t *testing.T) {
	withRenewals(t, counter(), func(t *testing.T, rt *renewTest) {
		rt.wantRenew("1", 80*time.Second)
		begin, closed := time.Now(), runAsync(rt.client.Close)
		rt.hub.wantBytes(wire.AppendBye(nil))
		rt.hub.Close()
		if err := <-closed; err != nil || time.Since(begin) > 0 {
			t.Errorf("Close: %v after %v", err, time.Since(begin))
		}
	})
}

// TestRenewal_TokenTooLong_Ends has a token that fits neither in RENEW nor in HELLO.
func TestRenewal_TokenTooLong_Ends(t *testing.T) {
	long := strings.Repeat("x", wire.MaxHelloLen)
	withRenewals(t, func(context.Context) (string, error) { return long, nil }, func(t *testing.T, rt *renewTest) {
		rt.hub.wantEOF()
		rt.hub = <-rt.hubs
		payload, _ := rt.hub.wantType(wire.TypeHello)
		if len(payload) <= wire.MaxHelloLen {
			t.Errorf("HELLO of %d bytes", len(payload))
		}
		go rt.hub.serve(nil) // ends with the connection
		rt.hub.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayProtocol}))
		<-rt.client.Done()
	})
}
