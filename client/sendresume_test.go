package client

import (
	"bytes"
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

// TestResume_NothingLostOrDuplicated: the client says how many frames it has received, drops
// duplicates, and sends again what the hub does not have.
func TestResume_NothingLostOrDuplicated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		for i := range 3 {
			if err := tc.client.Send(t.Context(), []uint64{1}, []byte(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		h.wantBytes(slices.Concat(sendFrame(1, "0"), sendFrame(2, "1"), sendFrame(3, "2")))
		h.send(deliverFrame(1, 0), deliverFrame(2, 0), deliverFrame(3, 0))
		wantMessage(t, tc.client, "1")
		wantMessage(t, tc.client, "2") // this marks the first message as received
		h.Close()
		if e := tc.wantEvent(EventDisconnected); !errors.Is(e.Err, ErrHubClosed) {
			t.Errorf("disconnected: %v", e.Err)
		}
		if err := tc.client.Send(t.Context(), []uint64{1}, []byte("3")); err != nil {
			t.Fatal(err)
		}
		h = <-tc.hubs
		text, _ := h.wantType(wire.TypeHello)
		h.wantType(wire.TypeIdentity)
		hello, err := wire.ParseHello(text)
		if err != nil || hello.ID != 7 || hello.Resume != "secret" || hello.Received < 1 || hello.Received > 2 {
			t.Errorf("HELLO %s, %v", text, err) // the second message may be received by now
		}
		w := resumedWelcome(func(w *wire.Welcome) { w.Seq, w.Acked, w.Again = 2, 1, 2 })
		h.sendWelcome(w)
		tc.wantEvent(EventResumed)
		h.wantBytes(append(sendFrame(3, "2"), sendFrame(4, "3")...))
		for seq := hello.Received + 1; seq <= 4; seq++ {
			h.send(deliverFrame(seq, 0))
		}
		for _, want := range []string{"3", "4"} {
			wantMessage(t, tc.client, want)
		}
		if ack, _ := h.wantType(wire.TypeAck); !bytes.Equal(ack, []byte{7: 3}) && !bytes.Equal(ack, []byte{7: 4}) {
			t.Errorf("ACK % x", ack) // after a while
		}
		if got := tc.client.Stats().Deliveries; got != 4 {
			t.Errorf("%d deliveries, want 4: duplicates must not count", got)
		}
	})
}

// TestReconnect_SessionLost has a hub that does not know the session any more.
func TestReconnect_SessionLost(t *testing.T) {
	for _, resend := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			tc, h := newTestClient(t, func(o *Options) { o.Resend = resend })
			outcome := make(chan error, 1)
			for i := range 3 {
				if err := tc.client.Send(t.Context(), []uint64{1}, []byte(fmt.Sprint(i))); err != nil {
					t.Fatal(err)
				}
			}
			ask := wire.AppendSend(nil, 4, wire.MakeOptions(wire.LevelReceived, 0), 0, []uint64{1}, nil)
			err := tc.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { outcome <- err })
			if err != nil {
				t.Fatal(err)
			}
			h.wantBytes(slices.Concat(sendFrame(1, "0"), sendFrame(2, "1"), sendFrame(3, "2"), ask))
			h.send(wire.AppendAck(nil, 1), deliverFrame(1, 0))
			synctest.Wait()
			h.Close()
			tc.wantEvent(EventDisconnected)
			if err := tc.client.Send(t.Context(), []uint64{1}, []byte("while away")); err != nil {
				t.Fatal(err)
			}
			h = <-tc.hubs
			other := testWelcome
			other.ID, other.Resume = 99, "another"
			h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, other)
			e := tc.wantEvent(EventNewID)
			if e.ID != 99 || tc.client.ID() != 99 {
				t.Errorf("the new id is %d, the event has %d", tc.client.ID(), e.ID)
			}
			if resend {
				h.wantBytes(slices.Concat(sendFrame(2, "1"), sendFrame(3, "2"), ask, sendFrame(5, "while away")))
				h.send(wire.AppendReport(nil, 4, []byte{3}))
				if err := <-outcome; err != nil {
					t.Error(err)
				}
			} else {
				if err := <-outcome; !errors.Is(err, ErrSessionLost) {
					t.Errorf("the report: %v, want %v", err, ErrSessionLost)
				}
				if e.Unconfirmed != 2 {
					t.Errorf("%d are unconfirmed, want 2", e.Unconfirmed)
				}
				h.wantBytes(sendFrame(5, "while away"))
			}
			wantMessage(t, tc.client, "1") // from before
		})
	}
}

// TestResend_SkipsReported: a message is not sent to a new session if its report came before
// its ACK.
func TestResend_SkipsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, func(o *Options) { o.Resend = true })
		outcome := make(chan error, 1)
		err := tc.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { outcome <- err })
		if err != nil {
			t.Fatal(err)
		}
		if err := tc.client.Send(t.Context(), []uint64{1}, []byte("2")); err != nil {
			t.Fatal(err)
		}
		h.wantType(wire.TypeSend)
		h.wantBytes(sendFrame(2, "2"))
		h.send(wire.AppendReport(nil, 1, []byte{byte(wire.FateReceived)}))
		if err := <-outcome; err != nil {
			t.Error(err)
		}
		h.Close()
		tc.wantEvent(EventDisconnected)
		h = <-tc.hubs
		h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret", Received: 1}, testWelcome)
		h.wantBytes(sendFrame(2, "2"))
	})
}

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
