package client

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// reconnectAfterLoss lets the hub read that number of bytes, closes the connection after delay,
// and accepts the next one as a hub that has received nothing.
func (tc *testClient) reconnectAfterLoss(h *fakeHub, bytes int, delay time.Duration) *fakeHub {
	tc.t.Helper()
	if _, err := io.ReadFull(h, make([]byte, bytes)); err != nil {
		tc.t.Error(err)
	}
	time.Sleep(delay)
	h.Close()
	tc.wantEvent(EventDisconnected)
	h = <-tc.hubs
	h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, resumedWelcome(func(*wire.Welcome) {}))
	tc.wantEvent(EventResumed)
	return h
}

// TestSendQueue_UndeliverableMessageFails loses a message with its connection again and again.
// The message fails, and the next one is sent.
func TestSendQueue_UndeliverableMessageFails(t *testing.T) {
	for _, reported := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			tc, h := newTestClient(t, func(o *Options) { o.MaxQueued = 5000 })
			failed := make(chan error, 1)
			large := strings.Repeat("x", 900)
			var err error
			if reported {
				err = tc.client.SendFunc(t.Context(), []uint64{1}, []byte(large), nil, func(_ *Report, err error) { failed <- err })
			} else {
				err = tc.client.Send(t.Context(), []uint64{1}, []byte(large))
			}
			if err == nil {
				err = tc.client.Send(t.Context(), []uint64{1}, []byte("behind"))
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 4 {
				h = tc.reconnectAfterLoss(h, 500, 4*time.Second)
			}
			if len(failed) > 0 {
				t.Error("given up after 4 attempts")
			}
			h = tc.reconnectAfterLoss(h, 500, 4*time.Second)
			if reported {
				err = <-failed
			} else {
				err = tc.wantEvent(EventRefused).Err
			}
			if !errors.Is(err, ErrUndeliverable) {
				t.Errorf("failed with %v, want %v", err, ErrUndeliverable)
			}
			h.wantBytes(sendFrame(2, "behind"))
			h.send(wire.AppendAck(nil, 2))
			if err := tc.client.Send(t.Context(), []uint64{1}, []byte("after")); err != nil {
				t.Error(err)
			}
			h.wantBytes(sendFrame(3, "after"))
		})
	}
}

// TestSendQueue_ShortConnectionsDoNotFailMessage loses connections too fast to blame the
// message.
func TestSendQueue_ShortConnectionsDoNotFailMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		for _, body := range []string{"first", "second"} {
			if err := tc.client.Send(t.Context(), []uint64{1}, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		for range 50 {
			h = tc.reconnectAfterLoss(h, 10, 100*time.Millisecond)
		}
		h.wantBytes(slices.Concat(sendFrame(1, "first"), sendFrame(2, "second")))
	})
}

// TestSendQueue_NewEpochFailsSendsToAssignedIDs sends to ids of a hub that restarts: before and
// during the restart, and with a full queue. The new hub gets only messages to granted ids, and
// only if both hubs grant ids. The others fail, also with Options.Resend.
func TestSendQueue_NewEpochFailsSendsToAssignedIDs(t *testing.T) {
	const granted, assigned = 5, wire.MaxGrantedID + 1
	receiverLists := [][]uint64{{granted}, {assigned}, {granted, assigned}, {assigned, granted}, {}}
	for _, test := range []struct{ resend, before, after bool }{
		{}, {resend: true}, {before: true}, {after: true}, {resend: true, before: true}, {resend: true, after: true},
		{before: true, after: true}, {resend: true, before: true, after: true},
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old, next := testWelcome, testWelcome
				old.MaxReports, next.MaxReports = 100, 100
				old.Credit, next.Credit = 10_000, 10_000
				old.GrantsIDs, next.GrantsIDs = test.before, test.after
				next.ID, next.Epoch = 99, 2
				tc, h := newTestClientWith(t, wire.Hello{Version: wire.Version2}, old, func(o *Options) { o.Resend = test.resend })
				survives := func(to []uint64) bool {
					return len(to) == 0 || test.before && test.after && len(to) == 1 && to[0] == granted
				}
				var wantSent []string
				wantLost, wantFailed := 0, 0
				outcomes := make(chan error, 100)
				sendAll := func(when string, underWay bool) {
					for _, to := range receiverLists {
						for _, report := range []bool{false, true} {
							body := fmt.Sprint(when, to, report)
							tc.sendTo(to, body, report, outcomes)
							switch {
							case survives(to) && (test.resend || !underWay):
								wantSent = append(wantSent, body)
							case report:
								wantFailed++
							default:
								wantLost++
							}
						}
					}
				}
				sendAll("before", true)
				for range 2 * len(receiverLists) {
					if _, err := h.wantType(wire.TypeSend); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				h.Close()
				tc.wantEvent(EventDisconnected)
				sendAll("while away", false)
				h = <-tc.hubs
				h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, next)
				if e := tc.wantEvent(EventNewID); e.Unconfirmed != wantLost {
					t.Errorf("%d are unconfirmed, want %d", e.Unconfirmed, wantLost)
				}
				for _, want := range wantSent {
					payload, err := h.wantType(wire.TypeSend)
					if m, _ := wire.ParseSend(payload); err != nil || string(m.Body) != want {
						t.Errorf("sent %q, %v, want %q", m.Body, err, want)
					}
				}
				for range wantFailed {
					if err := <-outcomes; !errors.Is(err, ErrSessionLost) {
						t.Errorf("a report: %v, want %v", err, ErrSessionLost)
					}
				}
				h.send(wire.AppendPing(nil, 8)) // the PONG comes behind all messages
				if payload, err := h.wantType(wire.TypePong); err != nil {
					t.Errorf("%x, %v", payload, err)
				}
			})
		})
	}
}

// sendTo sends a message. With report, its outcome goes to outcomes.
func (tc *testClient) sendTo(to []uint64, body string, report bool, outcomes chan<- error) {
	tc.t.Helper()
	var err error
	if report {
		err = tc.client.SendFunc(tc.t.Context(), to, []byte(body), nil, func(_ *Report, err error) { outcomes <- err })
	} else {
		err = tc.client.Send(tc.t.Context(), to, []byte(body))
	}
	if err != nil {
		tc.t.Fatal(err)
	}
}

// TestSendQueue_BlockedSendFailsOnNewHub has a Send that waits for room while the hub restarts.
func TestSendQueue_BlockedSendFailsOnNewHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, func(o *Options) { o.MaxQueued = 100 })
		h.Close()
		tc.wantEvent(EventDisconnected)
		if err := tc.client.Send(t.Context(), []uint64{5}, make([]byte, 200)); err != nil {
			t.Fatal(err)
		}
		waits := runAsync(func() error { return tc.client.Send(t.Context(), []uint64{5}, nil) })
		synctest.Wait()
		h = <-tc.hubs
		other := testWelcome
		other.ID, other.Epoch = 99, 2
		h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, other)
		if e := tc.wantEvent(EventNewID); e.Unconfirmed != 1 {
			t.Errorf("%d are unconfirmed, want 1", e.Unconfirmed)
		}
		if err := <-waits; !errors.Is(err, ErrSessionLost) {
			t.Errorf("the blocked Send: %v, want %v", err, ErrSessionLost)
		}
		if err := tc.client.Send(t.Context(), []uint64{99}, []byte("new")); err != nil {
			t.Fatal(err)
		}
		payload, err := h.wantType(wire.TypeSend)
		if m, _ := wire.ParseSend(payload); err != nil || string(m.Body) != "new" {
			t.Errorf("sent %q, %v", m.Body, err)
		}
	})
}
