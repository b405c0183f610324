package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
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

// TestClose_StopsReconnecting: an attempt that Close has canceled emits no event.
func TestClose_StopsReconnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		tc, h := newTestClient(t, func(o *Options) {
			dial := o.Dial
			o.Dial = func(ctx context.Context) (net.Conn, error) {
				if dials++; dials == 1 {
					return dial(ctx)
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		h.Close()
		tc.wantEvent(EventDisconnected)
		time.Sleep(minBackoff + time.Second) // an attempt is in progress
		if err := tc.client.Close(); err != nil {
			t.Error(err)
		}
		tc.wantEvent(EventClosed)
	})
}

// TestWelcome_LimitsBodies checks the body limits of WELCOME, also of a hub that does not
// announce max_deliver. A client with its own MaxBody announces and enforces it.
func TestWelcome_LimitsBodies(t *testing.T) {
	for _, test := range []struct {
		name                  string
		own                   int // Options.MaxBody
		maxBody, maxDeliver   int // of the hub
		wantSend, wantDeliver int
	}{
		{"without max_deliver", 0, 3 << 20, 0, 3 << 20, 3 << 20},
		{"less to send", 0, 100, 3 << 20, 100, 3 << 20},
		{"a small hub", 0, 100, 100, 100, 1 << 20}, // because a later hub can have a larger limit
		{"own limit", 2 << 20, 3 << 20, 2 << 20, 2 << 20, 2 << 20},
		{"own limit above that of the hub", 2 << 20, 100, 100, 100, 2 << 20},
	} {
		for _, extra := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, and %d more", test.name, extra), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := net.Pipe()
					defer far.Close()
					h := &fakeHub{t, far}
					var c *Client
					made := runAsync(func() (err error) {
						c, err = NewConn(t.Context(), near, &Options{MaxBody: test.own})
						return err
					})
					w := testWelcome
					w.MaxBody, w.MaxDeliver = test.maxBody, test.maxDeliver
					h.acceptHello(&wire.Hello{Version: wire.Version2, MaxBody: uint64(test.own)}, w)
					if err := <-made; err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					var large *BodyTooLargeError
					if err := c.Send(t.Context(), nil, make([]byte, test.wantSend+1)); !errors.As(err, &large) || large.Limit != test.wantSend {
						t.Errorf("Send: %v, want a limit of %d", err, test.wantSend)
					}
					body := make([]byte, test.wantDeliver+extra)
					// The goroutine ends when the client has read the frame or closed the connection.
					go h.Write(wire.AppendDeliver(nil, &wire.Deliver{Sender: 1, Seq: 1, Time: 1, Body: body}))
					m, err := c.Receive(t.Context())
					if extra == 0 && (err != nil || len(m.Body) != len(body)) || extra > 0 && !errors.Is(err, ErrProtocol) {
						t.Errorf("received %d bytes of %d, %v", len(m.Body), len(body), err)
					}
				})
			})
		}
	}
}
