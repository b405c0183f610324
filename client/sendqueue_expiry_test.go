package client

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// outcome is what SendFunc has reported.
type outcome struct {
	report  *Report
	err     error
	elapsed time.Duration // from the call to the report
}

// sendWithTTL sends a message with a TTL of 1 s, and returns the channel for its outcome.
func (tc *testClient) sendWithTTL(body string) <-chan outcome {
	tc.t.Helper()
	outcomes, begun := make(chan outcome, 2), time.Now()
	err := tc.client.SendFunc(tc.t.Context(), []uint64{1}, []byte(body), &SendOptions{TTL: time.Second}, func(r *Report, err error) {
		outcomes <- outcome{r, err, time.Since(begun)}
	})
	if err != nil {
		tc.t.Fatal(err)
	}
	return outcomes
}

// wantFate checks the fate in an outcome, and that the report came at once or after the TTL of
// 1 s.
func (tc *testClient) wantFate(outcomes <-chan outcome, seq uint64, want wire.Fate, atOnce bool) {
	tc.t.Helper()
	o := <-outcomes
	if o.err != nil || o.report.Seq != seq || len(o.report.Fates) != 1 || o.report.Fates[0] != want {
		tc.t.Errorf("outcome %+v, %v, want message %d: %v", o.report, o.err, seq, want)
	}
	if atOnce && (o.elapsed > time.Second || o.elapsed < time.Second-time.Millisecond) {
		tc.t.Errorf("outcome after %v", o.elapsed)
	}
	synctest.Wait()
	select {
	case o := <-outcomes:
		tc.t.Errorf("second outcome: %+v", o)
	default:
	}
}

// ttlSendFrame returns the SEND of a message with that remaining TTL.
func ttlSendFrame(seq uint64, remaining time.Duration, body string) []byte {
	return wire.AppendSend(nil, seq, wire.MakeOptions(wire.LevelReceived, wire.OverflowBlock), uint32(remaining.Milliseconds()), []uint64{1}, []byte(body))
}

// wantFrame reads the next frame of the client, and skips PINGs before it.
func (h *fakeHub) wantFrame(want []byte) {
	h.t.Helper()
	kind, payload, err := h.readFrame()
	for err == nil && kind == wire.TypePing {
		kind, payload, err = h.readFrame()
	}
	if wantKind, wantPayload := wire.Split(want); err != nil || kind != wantKind || !bytes.Equal(payload, wantPayload) {
		h.t.Errorf("the client sent a frame of type %d with % .40x… (%v), want % .40x…", kind, payload, err, want)
	}
}

// disconnect closes the connection, and returns the next one before its handshake.
func (tc *testClient) disconnect(h *fakeHub) *fakeHub {
	h.Close()
	tc.wantEvent(EventDisconnected)
	return <-tc.hubs
}

func TestTTL_ExpiresWhileDisconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		next := tc.disconnect(h)
		expired := tc.sendWithTTL("late")
		tc.wantFate(expired, 1, wire.FateExpired, true)
		fresh := tc.sendWithTTL("fresh")
		<-time.After(300 * time.Millisecond)
		next.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, resumedWelcome(func(*wire.Welcome) {}))
		next.wantFrame(ttlSendFrame(2, 700*time.Millisecond, "fresh"))
		next.send(wire.AppendReport(nil, 2, []byte{byte(wire.FateReceived)}))
		tc.wantFate(fresh, 2, wire.FateReceived, false)
	})
}

func TestTTL_ExpiresWhileCreditBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		large := string(make([]byte, 950))
		if err := tc.client.Send(t.Context(), []uint64{1}, []byte(large)); err != nil {
			t.Fatal(err)
		}
		h.wantFrame(sendFrame(1, large))
		expired, fresh := tc.sendWithTTL("late"), make(chan error, 1)
		// Ends when the message is queued.
		go func() { fresh <- tc.client.Send(t.Context(), []uint64{1}, []byte("fresh")) }()
		tc.wantFate(expired, 2, wire.FateExpired, true)
		h.send(wire.AppendAck(nil, 1))
		h.wantFrame(sendFrame(3, "fresh"))
		if err := <-fresh; err != nil {
			t.Error(err)
		}
	})
}

// TestTTL_ExpiresWhileSendBlocks has a full queue.
func TestTTL_ExpiresWhileSendBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, func(o *Options) { o.MaxQueued = 1000 })
		large := string(make([]byte, 950))
		if err := tc.client.Send(t.Context(), []uint64{1}, []byte(large)); err != nil {
			t.Fatal(err)
		}
		tc.wantFate(tc.sendWithTTL("late"), 2, wire.FateExpired, true)
		h.wantFrame(sendFrame(1, large))
		h.send(wire.AppendAck(nil, 1))
		tc.sendWithTTL("fresh")
		h.wantFrame(ttlSendFrame(3, time.Second, "fresh"))
	})
}

// TestTTL_ExpiresInOutbox has a hub that does not read. A message that expires in the outbox
// gives back its credit and its place among the pending reports. Its seq stays unused.
func TestTTL_ExpiresInOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		if err := tc.client.Send(t.Context(), []uint64{1}, []byte("first")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the first message is being written
		for range 2 {   // the maximum number of pending reports
			expired := tc.sendWithTTL("late")
			synctest.Wait() // the message is in the outbox
			tc.wantFate(expired, tc.client.session.sendQueue.seq, wire.FateExpired, true)
		}
		fresh := tc.sendWithTTL("fresh")
		<-time.After(400 * time.Millisecond)
		h.wantFrame(sendFrame(1, "first"))
		h.wantFrame(ttlSendFrame(4, 600*time.Millisecond, "fresh"))
		h.send(wire.AppendAck(nil, 4), wire.AppendReport(nil, 4, []byte{byte(wire.FateReceived)}))
		tc.wantFate(fresh, 4, wire.FateReceived, false)
		if n := tc.client.session.sendQueue.count(); n != 0 {
			t.Errorf("%d messages are still queued", n)
		}
	})
}

// TestTTL_AcrossResume: the hub reports the messages that it has, and the client the others.
func TestTTL_AcrossResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		had, lost := tc.sendWithTTL("had"), tc.sendWithTTL("lost")
		h.wantFrame(ttlSendFrame(1, time.Second, "had"))
		h.wantFrame(ttlSendFrame(2, time.Second, "lost"))
		h = tc.disconnect(h)
		<-time.After(2 * time.Second)
		h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, resumedWelcome(func(w *wire.Welcome) { w.Seq, w.Acked = 1, 1 }))
		tc.wantFate(lost, 2, wire.FateExpired, false)
		h.send(wire.AppendReport(nil, 1, []byte{byte(wire.FateWritten)}))
		tc.wantFate(had, 1, wire.FateWritten, false)
	})
}

// TestTTL_AcrossSessionLoss: the client sends unreported messages again, except expired ones.
// Their fate is uncertain.
func TestTTL_AcrossSessionLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, func(o *Options) { o.Resend = true })
		taken, sent := tc.sendWithTTL("taken"), tc.sendWithTTL("sent")
		h.wantFrame(ttlSendFrame(1, time.Second, "taken"))
		h.wantFrame(ttlSendFrame(2, time.Second, "sent"))
		h.send(wire.AppendAck(nil, 1))
		h = tc.disconnect(h)
		waits := tc.sendWithTTL("waits")
		<-time.After(2 * time.Second)
		tc.wantFate(waits, 3, wire.FateExpired, true)
		h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, testWelcome)
		tc.wantEvent(EventNewID)
		tc.wantFate(taken, 1, wire.FateUncertain, false)
		tc.wantFate(sent, 2, wire.FateUncertain, false)
		tc.sendWithTTL("fresh")
		h.wantFrame(ttlSendFrame(4, time.Second, "fresh"))
	})
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		sent := tc.sendWithTTL("sent")
		h.wantFrame(ttlSendFrame(1, time.Second, "sent"))
		h = tc.disconnect(h)
		<-time.After(2 * time.Second)
		h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, testWelcome)
		if o := <-sent; !errors.Is(o.err, ErrSessionLost) {
			t.Errorf("outcome %+v, want %v", o, ErrSessionLost)
		}
	})
}

// TestTTL_CloseDoesNotWaitForExpired: Close does not wait for expired messages.
func TestTTL_CloseDoesNotWaitForExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		tc.disconnect(h)
		expired := tc.sendWithTTL("late")
		begun := time.Now()
		if err := tc.client.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		tc.wantFate(expired, 1, wire.FateExpired, true)
	})
}

// TestSkip_CountsAsRead has a hub that replaces expired messages by SKIP after a resume.
func TestSkip_CountsAsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(deliverFrame(1, 0), deliverFrame(2, 0))
		if m, err := tc.client.Receive(t.Context()); err != nil || m.Seq != 1 {
			t.Fatalf("got message %d, %v", m.Seq, err)
		}
		h.wantFrame(wire.AppendAck(nil, 1)) // the second message is in the inbox
		h = tc.disconnect(h)
		read := uint64(2)
		h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret", Received: 1, Read: &read}, resumedWelcome(func(w *wire.Welcome) { w.Again = 2 }))
		h.send(wire.AppendSkip(nil), wire.AppendSkip(nil), deliverFrame(4, wire.DeliverWantAck))
		for _, want := range []uint64{2, 4} {
			if m, err := tc.client.Receive(t.Context()); err != nil || m.Seq != want {
				t.Fatalf("got message %d, %v, want %d", m.Seq, err, want)
			}
		}
		for n := uint64(0); n != 4; {
			payload, err := h.wantType(wire.TypeAck)
			if err != nil {
				t.Fatal(err)
			}
			n, _ = wire.ParseUint64(payload)
		}
	})
}
