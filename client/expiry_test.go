package client

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// outcome is what SendFunc has told.
type outcome struct {
	report *Report
	err    error
	after  time.Duration // of the call
}

// timed sends a message that has a second to live, and returns where its outcome will come.
func (d *dialog) timed(body string) <-chan outcome {
	d.t.Helper()
	told, begun := make(chan outcome, 2), time.Now()
	err := d.client.SendFunc(d.t.Context(), []uint64{1}, []byte(body), &SendOptions{TTL: time.Second}, func(r *Report, err error) {
		told <- outcome{r, err, time.Since(begun)}
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return told
}

// wantFate holds an outcome to a fate, and to the second that the message had.
func (d *dialog) wantFate(told <-chan outcome, seq uint64, want wire.Fate, atOnce bool) {
	d.t.Helper()
	o := <-told
	if o.err != nil || o.report.Seq != seq || len(o.report.Fates) != 1 || o.report.Fates[0] != want {
		d.t.Errorf("told %+v, %v, want of %d: %v", o.report, o.err, seq, want)
	}
	if atOnce && (o.after > time.Second || o.after < time.Second-time.Millisecond) {
		d.t.Errorf("told after %v", o.after)
	}
	synctest.Wait()
	select {
	case o := <-told:
		d.t.Errorf("told again: %+v", o)
	default:
	}
}

// sendTimed is the SEND of a message that has so much left.
func sendTimed(seq uint64, left time.Duration, body string) []byte {
	return wire.AppendSend(nil, seq, wire.MakeOptions(wire.LevelReceived, wire.OverloadWait), uint32(left.Milliseconds()), []uint64{1}, []byte(body))
}

// wantFrame reads the frame that the client must send next, behind any PING.
func (h *fakeHub) wantFrame(want []byte) {
	h.t.Helper()
	kind, payload, err := h.next()
	for err == nil && kind == wire.TypePing {
		kind, payload, err = h.next()
	}
	if wantKind, wantPayload := wire.Split(want); err != nil || kind != wantKind || !bytes.Equal(payload, wantPayload) {
		h.t.Errorf("the client sent a frame of type %d with % .40x… (%v), want % .40x…", kind, payload, err, want)
	}
}

// lose ends the connection, and returns the next one, on which nothing is said yet.
func (d *dialog) lose(h *fakeHub) *fakeHub {
	h.Close()
	d.wantEvent(EventDisconnected)
	return <-d.hubs
}

func TestTTL_RunsWithoutAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		next := d.lose(h)
		told := d.timed("late")
		d.wantFate(told, 1, wire.FateExpired, true)
		fresh := d.timed("fresh")
		<-time.After(300 * time.Millisecond)
		next.greet(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, resumed(func(*wire.Welcome) {}))
		next.wantFrame(sendTimed(2, 700*time.Millisecond, "fresh"))
		next.send(wire.AppendReport(nil, 2, []byte{byte(wire.FateReceived)}))
		d.wantFate(fresh, 2, wire.FateReceived, false)
	})
}

func TestTTL_RunsBehindTheCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		large := string(make([]byte, 950))
		if err := d.client.Send(t.Context(), []uint64{1}, []byte(large)); err != nil {
			t.Fatal(err)
		}
		h.wantFrame(send(1, large))
		told, fresh := d.timed("late"), make(chan error, 1)
		go func() { fresh <- d.client.Send(t.Context(), []uint64{1}, []byte("fresh")) }() // ends when it is in line
		d.wantFate(told, 2, wire.FateExpired, true)
		h.send(wire.AppendTaken(nil, 1))
		h.wantFrame(send(3, "fresh"))
		if err := <-fresh; err != nil {
			t.Error(err)
		}
	})
}

// TestTTL_RunsWhileSendWaits has no room in the line.
func TestTTL_RunsWhileSendWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, func(o *Options) { o.MaxQueued = 1000 })
		large := string(make([]byte, 950))
		if err := d.client.Send(t.Context(), []uint64{1}, []byte(large)); err != nil {
			t.Fatal(err)
		}
		d.wantFate(d.timed("late"), 2, wire.FateExpired, true)
		h.wantFrame(send(1, large))
		h.send(wire.AppendTaken(nil, 1))
		d.timed("fresh")
		h.wantFrame(sendTimed(3, time.Second, "fresh"))
	})
}

// TestTTL_RunsInTheQueueOfAConnection has a hub that does not read. The one that it sees no more has used up its
// number, its credit and its place among the reports for nothing: they are free again.
func TestTTL_RunsInTheQueueOfAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		if err := d.client.Send(t.Context(), []uint64{1}, []byte("first")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it is being written
		for range 2 {   // so many reports may be pending
			told := d.timed("late")
			synctest.Wait() // it is in the queue
			d.wantFate(told, d.client.outgoing.seq, wire.FateExpired, true)
		}
		fresh := d.timed("fresh")
		<-time.After(400 * time.Millisecond)
		h.wantFrame(send(1, "first"))
		h.wantFrame(sendTimed(4, 600*time.Millisecond, "fresh"))
		h.send(wire.AppendTaken(nil, 4), wire.AppendReport(nil, 4, []byte{byte(wire.FateReceived)}))
		d.wantFate(fresh, 4, wire.FateReceived, false)
		if n := d.client.outgoing.left(); n != 0 {
			t.Errorf("%d messages are still in line", n)
		}
	})
}

// TestTTL_OverALostConnection: the hub reports on what it has had, the client on what it has not.
func TestTTL_OverALostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		had, lost := d.timed("had"), d.timed("lost")
		h.wantFrame(sendTimed(1, time.Second, "had"))
		h.wantFrame(sendTimed(2, time.Second, "lost"))
		h = d.lose(h)
		<-time.After(2 * time.Second)
		h.greet(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, resumed(func(w *wire.Welcome) { w.Seq, w.Taken = 1, 1 }))
		d.wantFate(lost, 2, wire.FateExpired, false)
		h.send(wire.AppendReport(nil, 1, []byte{byte(wire.FateWritten)}))
		d.wantFate(had, 1, wire.FateWritten, false)
	})
}

// TestTTL_OverAForgottenClient sends again what was not reported: but not what has expired, of which nobody knows
// what the hub has done.
func TestTTL_OverAForgottenClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, func(o *Options) { o.Resend = true })
		taken, sent := d.timed("taken"), d.timed("sent")
		h.wantFrame(sendTimed(1, time.Second, "taken"))
		h.wantFrame(sendTimed(2, time.Second, "sent"))
		h.send(wire.AppendTaken(nil, 1))
		h = d.lose(h)
		waits := d.timed("waits")
		<-time.After(2 * time.Second)
		d.wantFate(waits, 3, wire.FateExpired, true)
		h.greet(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, welcome)
		d.wantEvent(EventNewID)
		d.wantFate(taken, 1, wire.FateUncertain, false)
		d.wantFate(sent, 2, wire.FateUncertain, false)
		d.timed("fresh")
		h.wantFrame(sendTimed(4, time.Second, "fresh"))
	})
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		sent := d.timed("sent")
		h.wantFrame(sendTimed(1, time.Second, "sent"))
		h = d.lose(h)
		<-time.After(2 * time.Second)
		h.greet(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, welcome)
		if o := <-sent; !errors.Is(o.err, ErrForgotten) {
			t.Errorf("told %+v, want %v", o, ErrForgotten)
		}
	})
}

// TestTTL_NothingIsLeftForClose: what has expired is not waited for.
func TestTTL_NothingIsLeftForClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		d.lose(h)
		told := d.timed("late")
		begun := time.Now()
		if err := d.client.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		d.wantFate(told, 1, wire.FateExpired, true)
	})
}

// TestSkip_Counts has a hub that does not send again what has expired.
func TestSkip_Counts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		h.send(deliver(1, 0), deliver(2, 0))
		if m, err := d.client.Receive(t.Context()); err != nil || m.Seq != 1 {
			t.Fatalf("got %d, %v", m.Seq, err)
		}
		h.wantFrame(wire.AppendTaken(nil, 1)) // and the second lies in the inbox
		h = d.lose(h)
		read := uint64(2)
		h.greet(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret", Received: 1, Read: &read}, resumed(func(w *wire.Welcome) { w.Again = 2 }))
		h.send(wire.AppendSkip(nil), wire.AppendSkip(nil), deliver(4, wire.FlagReceived))
		for _, want := range []uint64{2, 4} {
			if m, err := d.client.Receive(t.Context()); err != nil || m.Seq != want {
				t.Fatalf("got %d, %v, want %d", m.Seq, err, want)
			}
		}
		for n := uint64(0); n != 4; {
			payload, err := h.hear(wire.TypeTaken)
			if err != nil {
				t.Fatal(err)
			}
			n, _ = wire.ParseNumber(payload)
		}
	})
}
