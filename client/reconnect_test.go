package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// TestReconnect_FailedAttemptsEmitEvents makes attempts fail at each step, and checks the
// events.
func TestReconnect_FailedAttemptsEmitEvents(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	noToken := &fs.PathError{Op: "open", Path: "token", Err: fs.ErrNotExist}
	var away *GoAwayError
	tests := map[string]struct {
		dial  error                // nil: the dial succeeds
		token error                // nil: without GetToken
		hub   func(h *fakeHub)     // runs on the connection
		right func(err error) bool // whether the event has the right error
	}{
		"nil connection": {dial: errNilConn, right: func(err error) bool { return errors.Is(err, errNilConn) }},
		"no connection":  {dial: refused, right: func(err error) bool { return errors.Is(err, refused) }},
		"wrong certificate name": {
			dial:  &tls.CertificateVerificationError{Err: errors.New("for another name")},
			right: func(err error) bool { return errors.As(err, new(*tls.CertificateVerificationError)) },
		},
		"no token": {token: noToken, right: func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
		"closed":   {hub: func(h *fakeHub) { h.Close() }, right: func(err error) bool { return errors.Is(err, ErrHubClosed) || errors.Is(err, ErrConnectionLost) }},
		"goaway": {
			hub: func(h *fakeHub) {
				h.wantType(wire.TypeHello)
				h.wantType(wire.TypeIdentity)
				h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayBusy, Reason: "full", Reconnect: true}))
				h.Close()
			},
			right: func(err error) bool { return errors.As(err, &away) && away.Code == wire.GoAwayBusy },
		},
		"silent": {
			hub: func(h *fakeHub) {
				h.wantType(wire.TypeHello)
				h.wantType(wire.TypeIdentity)
			},
			right: func(err error) bool {
				return errors.Is(err, context.DeadlineExceeded) && errors.Is(err, ErrConnectionLost)
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const failing = 4 // number of failed attempts
				dials, questions := 0, 0
				tc, h := newTestClient(t, func(o *Options) {
					dial := o.Dial
					o.Dial = func(ctx context.Context) (net.Conn, error) {
						switch dials++; {
						case tt.dial == nil || dials == 1 || dials > 1+failing:
						case errors.Is(tt.dial, errNilConn):
							return nil, nil
						default:
							return nil, tt.dial
						}
						return dial(ctx)
					}
					o.GetToken = func(context.Context) (string, error) {
						if questions++; questions > 1 && questions <= 1+failing {
							return "", tt.token
						}
						return "", nil
					}
				})
				h.Close()
				tc.wantEvent(EventDisconnected)
				for n := range failing {
					if tt.hub != nil {
						tt.hub(<-tc.hubs)
					}
					if e := <-tc.failedAttempts; e.Attempt != n+1 || e.ID != 7 || !tt.right(e.Err) {
						t.Errorf("attempt %d of client %d: %v, want attempt %d of 7", e.Attempt, e.ID, e.Err, n+1)
					}
				}
				tc.acceptReconnect()
				tc.wantEvent(EventResumed)
			})
		})
	}
}

// acceptReconnect accepts the next attempt that reaches a hub that replies.
func (tc *testClient) acceptReconnect() {
	for h := range tc.hubs {
		_ = h.SetReadDeadline(time.Now().Add(time.Second))
		if _, _, err := h.readFrame(); err != nil {
			continue // dialed while the test still made attempts fail
		}
		h.wantType(wire.TypeIdentity)
		_ = h.SetReadDeadline(time.Time{})
		w := resumedWelcome(func(*wire.Welcome) {})
		h.sendWelcome(w)
		return
	}
}

// TestReconnect_AttemptsCutShort cuts connections before the first byte of the hub, and within
// its first frame.
func TestReconnect_AttemptsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.Close()
		tc.wantEvent(EventDisconnected)
		(<-tc.hubs).Close()
		h = <-tc.hubs
		h.wantType(wire.TypeHello)
		h.Close()
		h = <-tc.hubs
		h.wantType(wire.TypeHello)
		h.wantType(wire.TypeIdentity)
		h.send(wire.AppendWelcome(nil, &testWelcome)[:20])
		h.Close()
		h = <-tc.hubs
		h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, resumedWelcome(func(*wire.Welcome) {}))
		tc.wantEvent(EventResumed)
	})
}

// TestReconnect_AttemptTimeoutGrows has hubs that do not reply. The first attempt times out
// early, because the session waits for the resume only for a limited time.
func TestReconnect_AttemptTimeoutGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.Close()
		tc.wantEvent(EventDisconnected)
		for _, timeout := range []time.Duration{3 * time.Second, 6 * time.Second, 10 * time.Second, 10 * time.Second} {
			h = <-tc.hubs
			began := time.Now()
			h.wantType(wire.TypeHello)
			h.wantType(wire.TypeIdentity)
			if _, _, err := h.readFrame(); err == nil {
				t.Error("the client sends more frames")
			}
			if took := time.Since(began); took != timeout {
				t.Errorf("timed out after %v, want %v", took, timeout)
			}
		}
		h = <-tc.hubs
		h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, resumedWelcome(func(*wire.Welcome) {}))
		tc.wantEvent(EventResumed)
	})
}

// TestReconnect_V1HubEndsClient has a hub that speaks version 1 when the client reconnects.
func TestReconnect_V1HubEndsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.Close()
		tc.wantEvent(EventDisconnected)
		h = <-tc.hubs
		h.wantType(wire.TypeHello)
		h.wantType(wire.TypeIdentity)
		h.send(wire.AppendIdentity(nil, 1))
		go io.Copy(io.Discard, h) // ends with the connection
		<-tc.client.Done()
		if err := tc.client.Err(); !errors.Is(err, ErrVersion) {
			t.Errorf("the end is %v, want %v", err, ErrVersion)
		}
	})
}

// TestGoAway_ReconnectDelay: the client waits for the delay in GOAWAY.
func TestGoAway_ReconnectDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		begin := time.Now()
		h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayShutdown, Reconnect: true, After: 60_000}))
		h.Close()
		tc.wantEvent(EventDisconnected)
		<-tc.hubs
		if took := time.Since(begin); took < time.Minute || took > time.Minute+minBackoff {
			t.Errorf("reconnected after %v", took)
		}
	})
}

func TestGoAway_NoReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayTakenOver, Reason: "another"}))
		h.Close()
		<-tc.client.Done()
		var away *GoAwayError
		if err := tc.client.Err(); !errors.As(err, &away) || away.Code != wire.GoAwayTakenOver || away.Reason != "another" {
			t.Errorf("the end is %v", err)
		}
		tc.wantEvent(EventClosed)
	})
}

// TestGoAway_ExpiredTokenIsRenewed: the client tries new tokens until tokenGrace is over.
func TestGoAway_ExpiredTokenIsRenewed(t *testing.T) {
	atOnce := func(took time.Duration) bool { return took == 0 }
	inTheEnd := func(took time.Duration) bool { return took > tokenGrace && took < tokenGrace+maxBackoff }
	certificate := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, nil }
	for name, test := range map[string]struct {
		token func(context.Context) (string, error)
		tls   *tls.Config
		ends  func(took time.Duration) bool // nil: the hub accepts the client at last
	}{
		"no token":       {ends: atOnce},
		"no certificate": {tls: &tls.Config{}, ends: atOnce},
		"same token":     {token: rotateTokens(time.Hour, "old"), ends: inTheEnd},
		"certificate":    {tls: &tls.Config{GetClientCertificate: certificate}, ends: inTheEnd},
		"late token":     {token: rotateTokens(30*time.Second, "old", "new")},
		"expired tokens": {token: rotateTokens(5*time.Second, slices.Concat(strings.Split("abcdefghijklmnopq", ""), []string{"new"})...)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc, h := newTestClient(t, nil)
				tc.client.session.options.GetToken, tc.client.session.options.TLS = test.token, test.tls
				begin, timeout := time.Now(), time.After(10*time.Minute)
				h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayExpired, Reconnect: true}))
				h.Close()
				for back := false; !back; {
					select {
					case h := <-tc.hubs:
						back = h.answerToken("new")
					case <-tc.client.Done():
						var away *GoAwayError
						if err := tc.client.Err(); !errors.As(err, &away) || away.Code != wire.GoAwayExpired {
							t.Errorf("the end is %v", err)
						}
						if took := time.Since(begin); test.ends == nil || !test.ends(took) {
							t.Errorf("ended after %v", took)
						}
						return
					case <-timeout:
						t.Fatal("the client does not give up")
					}
				}
				if test.ends != nil {
					t.Error("the hub accepts the client")
				}
			})
		})
	}
}

// rotateTokens returns a GetToken that changes to the next token after each interval.
func rotateTokens(each time.Duration, list ...string) func(context.Context) (string, error) {
	var begin time.Time // time of the first call
	return func(context.Context) (string, error) {
		if begin.IsZero() {
			begin = time.Now()
		}
		return list[min(int(time.Since(begin)/each), len(list)-1)], nil
	}
}

// answerToken replies to a HELLO with WELCOME if the token is right, and otherwise with GOAWAY.
func (h *fakeHub) answerToken(right string) bool {
	payload, err := h.wantType(wire.TypeHello)
	if err != nil {
		return false
	}
	hello, err := wire.ParseHello(payload)
	if err != nil {
		h.t.Error(err)
	}
	h.wantBytes(wire.AppendIdentityRequest(nil))
	if hello.Token == right {
		h.sendWelcome(testWelcome)
		return true
	}
	h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayExpired, Reconnect: true}))
	h.Close()
	return false
}

// TestReconnect_BackoffWithJitter checks the delays between failed attempts.
func TestReconnect_BackoffWithJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts []time.Time
		tc, h := newTestClient(t, nil)
		tc.client.session.endpoints[0].dial = func(context.Context) (net.Conn, error) {
			attempts = append(attempts, time.Now())
			return nil, errors.New("no way")
		}
		last := time.Now()
		h.Close()
		tc.wantEvent(EventDisconnected)
		time.Sleep(10 * time.Minute)
		tc.client.session.end(ErrClosed)
		synctest.Wait()
		for i, at := range attempts {
			if delay, maxDelay := at.Sub(last), min(maxBackoff, minBackoff<<min(i, 16)); delay > maxDelay {
				t.Errorf("delay %d is %v, at most %v are allowed", i, delay, maxDelay)
			}
			last = at
		}
		if n := len(attempts); n < 30 || n > 300 { // 60 on average, and the first few
			t.Errorf("%d attempts in 10 minutes", n)
		}
	})
}
