package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// testWelcome is the default WELCOME of the fake hubs.
var testWelcome = wire.Welcome{
	Version: wire.Version2, ID: 7, Resume: "secret", Hub: "a test", Epoch: 1,
	MaxBody: 1000, MaxReceivers: 255, MaxReports: 2, Credit: 1000, Window: 2000, Keepalive: 10_000,
}

// testClient is a v2 client whose hub is the test, over connections without buffers.
type testClient struct {
	t              testing.TB
	client         *Client
	hubs           chan *fakeHub // ends of the connections, in dial order
	events         chan Event    // all events except EventReconnectFailed
	failedAttempts chan Event    // EventReconnectFailed; further ones are dropped when full
}

// newTestClient returns a connected v2 client and its first hub.
func newTestClient(t testing.TB, change func(*Options)) (*testClient, *fakeHub) {
	t.Helper()
	return newTestClientWith(t, wire.Hello{Version: wire.Version2}, testWelcome, change)
}

// newTestClientWith is newTestClient with that HELLO and that WELCOME.
func newTestClientWith(t testing.TB, hello wire.Hello, w wire.Welcome, change func(*Options)) (*testClient, *fakeHub) {
	t.Helper()
	tc := &testClient{t: t, hubs: make(chan *fakeHub, 100), events: make(chan Event, 100), failedAttempts: make(chan Event, 100)}
	o := Options{Dial: tc.dial, OnEvent: tc.onEvent}
	if change != nil {
		change(&o)
	}
	made := runAsync(func() error {
		var err error
		tc.client, err = Dial(t.Context(), "", &o)
		return err
	})
	h := <-tc.hubs
	h.acceptHello(&hello, w)
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tc.client.session.end(ErrClosed) // also without a hub
		tc.client.Close()
	})
	return tc, h
}

func (tc *testClient) dial(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	tc.t.Cleanup(func() { far.Close() })
	tc.hubs <- &fakeHub{tc.t, far}
	return near, nil
}

func (tc *testClient) onEvent(e Event) {
	if e.Kind != EventReconnectFailed {
		tc.events <- e
		return
	}
	select {
	case tc.failedAttempts <- e:
	default:
	}
}

// acceptHello reads a HELLO, which must equal want, and replies with w.
func (h *fakeHub) acceptHello(want *wire.Hello, w wire.Welcome) {
	h.t.Helper()
	h.wantHello(want)
	h.sendWelcome(w)
}

// sendWelcome sends w, and reads the first ACK of a client with a new session.
func (h *fakeHub) sendWelcome(w wire.Welcome) {
	h.t.Helper()
	h.send(wire.AppendWelcome(nil, &w), wire.AppendIdentity(nil, w.ID))
	if !w.Resumed {
		h.wantBytes(wire.AppendAck(nil, 0))
	}
}

// wantHello reads a HELLO, which must equal want apart from the fields that each HELLO has.
// Read is compared only if want sets it.
func (h *fakeHub) wantHello(want *wire.Hello) {
	h.t.Helper()
	expected := *want
	expected.Confirms, expected.Skip = true, true
	typ, payload, err := h.readFrame()
	got, _ := wire.ParseHello(payload)
	if expected.Read == nil {
		got.Read = nil
	}
	if got, want := wire.AppendHello(nil, &got), wire.AppendHello(nil, &expected); err != nil || typ != wire.TypeHello || !bytes.Equal(got, want) {
		h.t.Errorf("the client sent a frame of type %#x: %q (%v), want %q", typ, got, err, want)
	}
	h.wantBytes(wire.AppendIdentityRequest(nil))
}

// resumedWelcome returns the WELCOME for a resumed session.
func resumedWelcome(change func(*wire.Welcome)) wire.Welcome {
	w := testWelcome
	w.Resumed = true
	change(&w)
	return w
}

// wantEvent takes the next event, which must be of that kind.
func (tc *testClient) wantEvent(kind EventKind) Event {
	tc.t.Helper()
	e := <-tc.events
	if e.Kind != kind {
		tc.t.Errorf("event %v (%v), want %v", e.Kind, e.Err, kind)
	}
	return e
}

// wantType reads the next frame, which must be of that type, and returns its payload.
func (h *fakeHub) wantType(want wire.Type) ([]byte, error) {
	h.t.Helper()
	got, payload, err := h.readFrame()
	if err != nil || got != want {
		h.t.Errorf("a frame of type %d (%v), want %d", got, err, want)
	}
	return payload, err
}

func sendFrame(seq uint64, body string) []byte {
	return wire.AppendSend(nil, seq, 0, 0, []uint64{1}, []byte(body))
}

func deliverFrame(seq uint64, flags wire.DeliverFlags) []byte {
	return wire.AppendDeliver(nil, &wire.Deliver{Sender: 1, Seq: seq, Time: 1, Flags: flags, Body: []byte(fmt.Sprint(seq))})
}

// TestSendQueue_RespectsCredit checks what the client sends before the first ACK.
func TestSendQueue_RespectsCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, func(o *Options) { o.MaxQueued = 3000 })
		body := strings.Repeat("x", 350) // costs 456 bytes of credit: two messages fit
		for range 6 {
			if err := tc.client.Send(t.Context(), []uint64{1}, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		last := runAsync(func() error { return tc.client.Send(t.Context(), []uint64{1}, []byte(body)) })
		if !isBlocked(last) {
			t.Fatal("Send queues more than MaxQueued")
		}
		for _, seq := range []uint64{1, 3, 5} {
			h.wantBytes(append(sendFrame(seq, body), sendFrame(seq+1, body)...))
			h.wantSilence()
			h.send(wire.AppendAck(nil, seq+1))
		}
		h.wantBytes(sendFrame(7, body))
		if err := <-last; err != nil {
			t.Error(err)
		}
	})
}

// TestSendQueue_ReceiverCost checks how much the client sends to hubs that announce the cost of
// a receiver, and to a hub that does not. The credit allows four messages to ten receivers.
// Then another hub takes over, with the default cost.
func TestSendQueue_ReceiverCost(t *testing.T) {
	const receivers = 10
	for _, test := range []struct{ named, cost int }{{0, wire.DefaultReceiverCost}, {1, 1}, {16, 16}, {64, 64}} {
		t.Run(fmt.Sprint(test.named), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				to, body := make([]uint64, receivers), []byte("message")
				one := func(seq uint64) []byte { return wire.AppendSend(nil, seq, 0, 0, to, body) }
				w := testWelcome
				w.ReceiverCost, w.Credit = test.named, 4*wire.SendCost(receivers, len(body), test.cost)
				tc, h := newTestClientWith(t, wire.Hello{Version: wire.Version2}, w, func(o *Options) { o.MaxQueued = 100_000 })
				for range 10 {
					if err := tc.client.Send(t.Context(), to, body); err != nil {
						t.Fatal(err)
					}
				}
				h.wantBytes(slices.Concat(one(1), one(2), one(3), one(4)))
				h.wantSilence()
				h.Close()
				h = <-tc.hubs
				h.wantType(wire.TypeHello)
				h.wantType(wire.TypeIdentity)
				w.Resumed, w.ReceiverCost, w.Credit = true, 0, 2*wire.SendCost(receivers, len(body), wire.DefaultReceiverCost)
				w.Seq, w.Acked = 1, 0
				h.sendWelcome(w)
				h.wantBytes(one(2)) // beside a message that is not acknowledged
				h.wantSilence()
				h.send(wire.AppendAck(nil, 2))
				h.wantBytes(append(one(3), one(4)...))
				h.wantSilence()
				q := &tc.client.session.sendQueue
				if got := q.sends.cost; got != 8*wire.SendCost(receivers, len(body), wire.DefaultReceiverCost) {
					t.Errorf("the queue costs %d", got)
				}
			})
		})
	}
}

// TestSendQueue_ProbesWhenCreditBlocked sends a message that does not fit beside the messages
// in flight. The hub does, or does not, send an ACK for those by itself. The credit is 1,000.
func TestSendQueue_ProbesWhenCreditBlocked(t *testing.T) {
	ping := wire.AppendPing(nil, 1)
	for name, test := range map[string]struct {
		before []int  // sizes of bodies, each of which costs 98 more
		ask    []byte // the next frame of the client
	}{
		"a small message":         {[]int{0}, ping},
		"two small messages":      {[]int{0, 0}, ping},
		"a quarter of the credit": {[]int{200}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				tc, h := newTestClient(t, func(o *Options) { o.MaxQueued = 5000 })
				large := strings.Repeat("x", 1000)
				bodies := append(test.before, len(large))
				var sent []byte
				for i, n := range bodies {
					if err := tc.client.Send(t.Context(), []uint64{1}, []byte(large[:n])); err != nil {
						t.Fatal(err)
					}
					if i < len(test.before) {
						sent = append(sent, sendFrame(uint64(i+1), large[:n])...)
					}
				}
				h.wantBytes(append(sent, test.ask...))
				h.wantSilence() // one probe only
				last := uint64(len(test.before))
				if last > 1 && test.ask != nil { // the hub does not acknowledge the rest by itself
					h.send(wire.AppendAck(nil, last-1))
					h.wantBytes(ping)
				}
				h.send(wire.AppendAck(nil, last), wire.AppendPong(nil, 1))
				h.wantBytes(sendFrame(last+1, large))
				if took := time.Since(began); took > 10*time.Millisecond {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestSendQueue_ProbesWhenFull has a queue that is smaller than the amount that the hub
// acknowledges by itself.
func TestSendQueue_ProbesWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		tc, h := newTestClient(t, func(o *Options) { o.MaxQueued = 150 })
		for seq := uint64(1); seq <= 3; seq++ {
			sent := runAsync(func() error { return tc.client.Send(t.Context(), []uint64{1}, []byte("small")) })
			if seq > 1 {
				h.wantBytes(wire.AppendPing(nil, 1))
				h.wantSilence()
				h.send(wire.AppendAck(nil, seq-1), wire.AppendPong(nil, 1))
			}
			h.wantBytes(sendFrame(seq, "small"))
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// wantSilence fails the test if the client sends anything for a short time.
func (h *fakeHub) wantSilence() {
	h.t.Helper()
	if err := h.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		h.t.Fatal(err)
	}
	var b [1]byte
	if n, err := h.Read(b[:]); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		h.t.Errorf("the client sent %d bytes (%v), want none", n, err)
	}
	_ = h.SetReadDeadline(time.Time{})
}

// TestSendQueue_ContinuesAtHalfCredit: the messages that are sent then leave together.
func TestSendQueue_ContinuesAtHalfCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, func(o *Options) { o.MaxQueued = 5000 })
		body := strings.Repeat("x", 140) // costs 246 bytes of credit: four messages fit
		for range 10 {
			if err := tc.client.Send(t.Context(), []uint64{1}, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		h.wantBytes(slices.Concat(sendFrame(1, body), sendFrame(2, body), sendFrame(3, body), sendFrame(4, body)))
		h.send(wire.AppendAck(nil, 1))
		h.wantSilence()
		h.send(wire.AppendAck(nil, 2))
		h.wantBytes(append(sendFrame(5, body), sendFrame(6, body)...))
		h.send(wire.AppendAck(nil, 6))
		h.wantBytes(slices.Concat(sendFrame(7, body), sendFrame(8, body), sendFrame(9, body), sendFrame(10, body)))
	})
}

// TestSendQueue_OversizedSendGoesAlone: a message above the credit is sent when nothing is in
// flight.
func TestSendQueue_OversizedSendGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, func(o *Options) { o.MaxQueued = 5000 })
		large := strings.Repeat("x", 1000)
		for _, body := range []string{"small", large, "behind"} {
			if err := tc.client.Send(t.Context(), []uint64{1}, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		h.wantBytes(append(sendFrame(1, "small"), wire.AppendPing(nil, 1)...))
		h.wantSilence()
		h.send(wire.AppendAck(nil, 1))
		h.wantBytes(sendFrame(2, large))
		h.wantSilence()
		h.send(wire.AppendAck(nil, 2))
		h.wantBytes(sendFrame(3, "behind"))
	})
}

// TestSendQueue_RespectsMaxReports: the client sends at most MaxReports messages that wait for
// a report.
func TestSendQueue_RespectsMaxReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		got := make(chan *Report, 3)
		for i := range 3 {
			err := tc.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(r *Report, err error) {
				if err == nil { // the remaining messages fail at the end
					got <- r
				}
			})
			if err != nil {
				t.Fatal(i, err)
			}
		}
		ask := func(seq uint64) []byte {
			return wire.AppendSend(nil, seq, wire.MakeOptions(wire.LevelReceived, 0), 0, []uint64{1}, nil)
		}
		h.wantBytes(append(ask(1), ask(2)...))
		h.wantSilence()
		h.send(wire.AppendReport(nil, 2, []byte{byte(wire.FateReceived)}))
		h.wantBytes(ask(3))
		if r := <-got; r.Seq != 2 || !slices.Equal(r.Fates, []wire.Fate{wire.FateReceived}) {
			t.Errorf("got %+v", r)
		}
	})
}

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

// TestHello_Read: HELLO.read has the number of frames that were read completely, if the last
// connection had a WELCOME.
func TestHello_Read(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(deliverFrame(1, 0), deliverFrame(2, 0)[:20])
		h.Close()
		tc.wantEvent(EventDisconnected)
		for _, want := range []string{`"read":"1"`, ""} {
			h = <-tc.hubs
			payload, err := h.wantType(wire.TypeHello)
			if err != nil || !strings.Contains(string(payload), want) || strings.Contains(string(payload), "read") != (want != "") {
				t.Errorf("HELLO %s (%v), want %q in it", payload, err, want)
			}
			h.Close()
		}
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

// TestVerdicts_ResentUntilConfirmed sends verdicts again on the next connection, until a PONG
// has confirmed them.
func TestVerdicts_ResentUntilConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(deliverFrame(1, wire.DeliverWantAck|wire.DeliverWantVerdict), deliverFrame(2, wire.DeliverWantAck|wire.DeliverWantVerdict))
		receive := func(f func(Message)) {
			m, err := tc.client.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f(m)
		}
		receive(Message.Ack)
		first := wire.AppendVerdicts(nil, []wire.Verdict{{Sender: 1, Seq: 1, Fate: wire.FateProcessed}})
		h.wantBytes(first)
		h.Close()
		tc.wantEvent(EventDisconnected)
		receive(Message.Nak)
		h = <-tc.hubs
		hello, _ := h.wantType(wire.TypeHello) // the second message may be received by now
		h.wantType(wire.TypeIdentity)
		h.send(wire.AppendWelcome(nil, new(resumedWelcome(func(*wire.Welcome) {}))), wire.AppendIdentity(nil, 7))
		tc.wantEvent(EventResumed)
		h.wantBytes(wire.AppendVerdicts(nil, []wire.Verdict{
			{Sender: 1, Seq: 1, Fate: wire.FateProcessed}, {Sender: 1, Seq: 2, Fate: wire.FateRejected},
		}))
		for want := 2; want > 0; want-- { // in either order, or together
			kind, payload, err := h.readFrame()
			switch {
			case err == nil && kind == wire.TypePing && bytes.Equal(payload, []byte{7: 3}): // 2 verdicts
				h.send(wire.AppendPong(nil, 3))
				want -= bytes.Count(hello, []byte(`"received":"2"`))
			case err == nil && kind == wire.TypeAck && bytes.Equal(payload, []byte{7: 2}):
			default:
				t.Fatalf("a frame of type %d: % x (%v)", kind, payload, err)
			}
		}
		synctest.Wait()
		if unconfirmed, confirmed := tc.client.session.verdicts.hasUnconfirmed(); unconfirmed || confirmed != 2 {
			t.Errorf("%d verdicts are confirmed, unconfirmed ones left: %v", confirmed, unconfirmed)
		}
	})
}

// TestVerdicts_ConfirmedWhileSending: an ACK of the hub does not confirm verdicts.
func TestVerdicts_ConfirmedWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(deliverFrame(1, wire.DeliverWantAck|wire.DeliverWantVerdict))
		wantMessage(t, tc.client, "1").Ack()
		h.wantType(wire.TypeVerdict)
		for seq := uint64(1); seq < 100; seq++ {
			if err := tc.client.Send(t.Context(), []uint64{1}, nil); err != nil {
				t.Fatal(err)
			}
			for {
				kind, payload, err := h.readFrame()
				if err != nil {
					t.Fatal(err)
				}
				if kind == wire.TypePing {
					h.send(wire.AppendPong(nil, binary.BigEndian.Uint64(payload)))
					synctest.Wait()
					if unconfirmed, _ := tc.client.session.verdicts.hasUnconfirmed(); unconfirmed {
						t.Error("a confirmed verdict is kept")
					}
					return
				}
				if kind == wire.TypeSend {
					break
				}
			}
			h.send(wire.AppendAck(nil, seq))
			time.Sleep(ackDelay / 2)
		}
		t.Error("the verdicts are not confirmed by a probe")
	})
}

// TestVerdicts_DroppedForNewSession: in another session the verdicts would mean other messages.
func TestVerdicts_DroppedForNewSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		processed := wire.DeliverWantAck | wire.DeliverWantVerdict
		h.send(deliverFrame(1, processed))
		old := wantMessage(t, tc.client, "1")
		h.Close()
		tc.wantEvent(EventDisconnected)
		h = <-tc.hubs
		text, _ := h.wantType(wire.TypeHello)
		h.wantType(wire.TypeIdentity)
		if _, err := wire.ParseHello(text); err != nil {
			t.Error(err)
		}
		h.sendWelcome(testWelcome)
		tc.wantEvent(EventNewID)
		h.send(deliverFrame(2, processed))
		young := wantMessage(t, tc.client, "2")
		old.Ack()
		young.Nak()
		for {
			kind, payload, err := h.readFrame()
			if err != nil {
				t.Fatal(err)
			}
			if kind == wire.TypeVerdict {
				if want := wire.AppendVerdicts(nil, []wire.Verdict{{Sender: 1, Seq: 2, Fate: wire.FateRejected}})[wire.HeaderSize:]; !bytes.Equal(payload, want) {
					t.Errorf("VERDICT % x, want % x", payload, want)
				}
				return
			}
		}
	})
}

// TestClose_GoAwayReportsUnsent: messages that were sent after the hub stopped reading are
// lost.
func TestClose_GoAwayReportsUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		if err := tc.client.Send(t.Context(), []uint64{1}, nil); err != nil {
			t.Fatal(err)
		}
		h.wantType(wire.TypeSend)
		closed := runAsync(tc.client.Close)
		h.wantType(wire.TypeBye)
		h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayShutdown, Reconnect: true}))
		h.Close()
		if err := <-closed; err == nil || !strings.Contains(err.Error(), "1 messages") {
			t.Errorf("Close: %v", err)
		}
	})
}

// TestKeepAlive_AnswersPingAndTimesOut replies to a PING, and then sees the keep-alive timeout.
func TestKeepAlive_AnswersPingAndTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(wire.AppendPing(nil, 42))
		h.wantBytes(wire.AppendPong(nil, 42))
		begin := time.Now()
		go io.Copy(io.Discard, h) // ends with the connection
		e := tc.wantEvent(EventDisconnected)
		if took := time.Since(begin); took < 20*time.Second || took > 30*time.Second || !errors.Is(e.Err, ErrConnectionLost) {
			t.Errorf("given up after %v: %v, want after two intervals of 10s", took, e.Err)
		}
	})
}

// TestPing_SendsAckBeforePong checks the order of the two frames.
func TestPing_SendsAckBeforePong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(deliverFrame(1, 0), deliverFrame(2, 0))
		for range 2 { // the second Receive marks the first message as received
			if _, err := tc.client.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		h.send(wire.AppendPing(nil, 42))
		h.wantBytes(wire.AppendAck(nil, 1))
		h.wantBytes(wire.AppendPong(nil, 42))
		if took := time.Since(begin); took != 0 {
			t.Errorf("ACK after %v", took)
		}
		h.Close()
		tc.client.session.end(ErrClosed)
	})
}

// TestClose_NothingSentAfterBye has a PING to answer and messages without an ACK.
func TestClose_NothingSentAfterBye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		if err := tc.client.Send(t.Context(), []uint64{1}, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		h.wantBytes(sendFrame(1, "hello"))
		closed := runAsync(tc.client.Close)
		h.wantType(wire.TypeBye)
		h.send(wire.AppendPing(nil, 42), deliverFrame(1, wire.DeliverWantAck))
		time.Sleep(2 * time.Second) // many ticks, which could probe
		if err := h.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if kind, _, err := h.readFrame(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a frame of type %d (%v) after BYE", kind, err)
		}
		h.Close()
		if err := <-closed; err != nil {
			t.Error(err)
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
		tc.client.session.options.Dial = func(context.Context) (net.Conn, error) {
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

// TestClose_SendsFinalAck checks for an ACK and then BYE.
func TestClose_SendsFinalAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(deliverFrame(1, 0), deliverFrame(2, 0))
		wantMessage(t, tc.client, "1")
		closed := runAsync(tc.client.Close)
		h.wantBytes(wire.AppendBye(wire.AppendAck(nil, 1)))
		h.wantEOF()
		h.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// TestClose_WhileReconnecting loses the connection, and calls Close before the next WELCOME.
func TestClose_WhileReconnecting(t *testing.T) {
	away := func(t *testing.T, sent int) (*testClient, *fakeHub) {
		tc, h := newTestClient(t, nil)
		h.Close()
		tc.wantEvent(EventDisconnected)
		for i := range sent {
			if err := tc.client.Send(t.Context(), []uint64{1}, []byte(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		h = <-tc.hubs
		h.wantType(wire.TypeHello)
		h.wantType(wire.TypeIdentity)
		return tc, h
	}
	t.Run("with nothing to send", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tc, _ := away(t, 0)
			begun := time.Now()
			if err := tc.client.Close(); err != nil || time.Since(begun) > 0 {
				t.Errorf("Close took %v: %v", time.Since(begun), err)
			}
		})
	})
	t.Run("with something to send", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tc, h := away(t, 1)
			closed := runAsync(tc.client.Close)
			if !isBlocked(closed) {
				t.Fatal("Close does not wait for the reconnect")
			}
			w := resumedWelcome(func(*wire.Welcome) {})
			h.sendWelcome(w)
			h.wantBytes(wire.AppendBye(sendFrame(1, "0")))
			h.Close()
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("to a hub that does not reply", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tc, _ := away(t, 2)
			begun := time.Now()
			err := tc.client.Close()
			if took := time.Since(begun); took != tc.client.session.options.CloseTimeout {
				t.Errorf("Close took %v, want %v", took, tc.client.session.options.CloseTimeout)
			}
			if !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "2 messages") {
				t.Errorf("Close: %v", err)
			}
		})
	})
}

// TestSendQueue_RejectsAfterFlush: Send fails when the queue is sealed for BYE.
func TestSendQueue_RejectsAfterFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, _ := newTestClient(t, nil)
		if !tc.client.session.sendQueue.flush(tc.client.session.conns.current(), nil) {
			t.Fatal("the connection has ended")
		}
		if err := tc.client.Send(t.Context(), []uint64{1}, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Send: %v, want %v", err, ErrClosed)
		}
	})
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

// TestClose_DuplicateReportCountsOnce loses the connection of a closing client. The hub then
// sends unacknowledged frames again.
func TestClose_DuplicateReportCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, func(o *Options) { o.MaxQueued = 5000 })
		outcome := make(chan error, 1)
		err := tc.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { outcome <- err })
		if err != nil {
			t.Fatal(err)
		}
		large := strings.Repeat("x", 900)
		// More than the remaining credit.
		if err := tc.client.Send(t.Context(), []uint64{1}, []byte(large)); err != nil {
			t.Fatal(err)
		}
		h.wantType(wire.TypeSend)
		closed := runAsync(tc.client.Close)
		synctest.Wait()
		report := wire.AppendReport(nil, 1, []byte{byte(wire.FateReceived)})
		h.send(report)
		if err := <-outcome; err != nil {
			t.Error(err)
		}
		h.Close()
		tc.wantEvent(EventDisconnected)
		h = <-tc.hubs
		h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"},
			resumedWelcome(func(w *wire.Welcome) { w.Seq, w.Acked, w.Again = 1, 1, 1 }))
		h.wantBytes(sendFrame(2, large))
		h.send(report)
		h.wantType(wire.TypeBye)
		h.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// TestInbox_AcksAtHalfWindow checks that an ACK comes before the window is half full.
func TestInbox_AcksAtHalfWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		var frames []byte
		n := uint64(0)
		for len(frames) < testWelcome.Window/2 {
			n++
			frames = append(frames, deliverFrame(n, 0)...)
		}
		begin := time.Now()
		h.send(frames)
		received := runAsync(func() error {
			for range n + 1 {
				if _, err := tc.client.Receive(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
		h.wantBytes(wire.AppendAck(nil, n))
		if took := time.Since(begin); took != 0 {
			t.Errorf("ACK after %v", took)
		}
		h.send(deliverFrame(n+1, wire.DeliverWantAck))
		if err := <-received; err != nil {
			t.Error(err)
		}
		back := runAsync(func() error { _, err := tc.client.Receive(t.Context()); return err })
		h.wantBytes(wire.AppendAck(nil, n+1)) // the sender waits for a report
		if took := time.Since(begin); took != 0 {
			t.Errorf("ACK after %v", took)
		}
		h.Close()
		tc.client.session.end(ErrClosed)
		<-back
	})
}

// TestClient_ProtocolViolationsEndIt: after a protocol violation the client does not reconnect.
func TestClient_ProtocolViolationsEndIt(t *testing.T) {
	shortNumber := func(b []byte) []byte { b[3]--; return b[:len(b)-1] } // a number of 7 bytes
	for name, frame := range map[string][]byte{
		"ACK beyond the last SEND":    wire.AppendAck(nil, 1),
		"a short ACK":                 shortNumber(wire.AppendAck(nil, 1)),
		"a short PING":                shortNumber(wire.AppendPing(nil, 1)),
		"a short PONG":                shortNumber(wire.AppendPong(nil, 1)),
		"an unexpected PONG":          wire.AppendPong(nil, 0),
		"an unexpected REPORT":        wire.AppendReport(nil, 1, nil),
		"a REPORT with a wrong count": {0, 0, 0, 10, byte(wire.TypeReport), 0, 0, 0, 0, 0, 0, 0, 1, 5},
		"a second WELCOME":            wire.AppendWelcome(nil, &testWelcome),
		"an unexpected LIST_PAGE":     wire.AppendListPage(nil, 0, false, nil),
		"a truncated PRESENCE":        {0, 0, 0, 2, byte(wire.TypePresence), 1},
		"a truncated ERROR":           {0, 0, 0, 2, byte(wire.TypeError), 1},
		"a GOAWAY without JSON":       {0, 0, 0, 2, byte(wire.TypeGoAway), '{'},
		"a truncated DELIVER":         {0, 0, 0, 2, byte(wire.TypeDeliver), 1},
		"a body above the limit":      wire.AppendDeliver(nil, &wire.Deliver{Body: make([]byte, wire.DefaultMaxBody+1)}),
		"a SEND":                      sendFrame(1, ""),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc, h := newTestClient(t, nil)
				go h.Write(frame) // ends when the client has closed the connection
				<-tc.client.Done()
				if err := tc.client.Err(); !errors.Is(err, ErrProtocol) {
					t.Errorf("the end is %v, want %v", err, ErrProtocol)
				}
			})
		})
	}
}

func TestWelcome_Invalid(t *testing.T) {
	for name, change := range map[string]func(*wire.Welcome){
		"another version":  func(w *wire.Welcome) { w.Version = 3 },
		"no credit":        func(w *wire.Welcome) { w.Credit = 0 },
		"a cost below 0":   func(w *wire.Welcome) { w.ReceiverCost = -1 },
		"too high a cost":  func(w *wire.Welcome) { w.ReceiverCost = wire.DefaultReceiverCost + 1 },
		"no window":        func(w *wire.Welcome) { w.Window = -1 },
		"no reports":       func(w *wire.Welcome) { w.MaxReports = 0 },
		"no interval":      func(w *wire.Welcome) { w.Keepalive = 0 },
		"a time below 0":   func(w *wire.Welcome) { w.MaxReportTimeout = -1 },
		"resumed at first": func(w *wire.Welcome) { w.Resumed = true },
		"less than bodies": func(w *wire.Welcome) { w.MaxDeliver = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			h := &fakeHub{t, far}
			made := runAsync(func() error { _, err := NewConn(t.Context(), near, nil); return err })
			w := testWelcome
			change(&w)
			h.wantHello(&wire.Hello{Version: wire.Version2})
			go h.Write(wire.AppendWelcome(nil, &w)) // ends when the client has closed the connection
			if err := waitFor(t, "an error", made); !errors.Is(err, ErrProtocol) {
				t.Errorf("got %v, want %v", err, ErrProtocol)
			}
		})
	}
}

// TestDial_V1Hub has a hub that ignores HELLO.
func TestDial_V1Hub(t *testing.T) {
	for _, version := range []int{0, 2} {
		near, far := net.Pipe()
		defer far.Close()
		h := &fakeHub{t, far}
		var c *Client
		made := runAsync(func() (err error) {
			c, err = NewConn(t.Context(), near, &Options{Version: version})
			return err
		})
		h.wantHello(&wire.Hello{Version: wire.Version2})
		// Ends when the client has read the frames.
		go h.Write(append(deliveryFrame("before"), wire.AppendIdentity(nil, 5)...))
		err := waitFor(t, "NewConn", made)
		if version == 2 {
			if !errors.Is(err, ErrVersion) {
				t.Errorf("got %v, want %v", err, ErrVersion)
			}
			continue
		}
		if err != nil || c.ID() != 5 || c.Version() != 1 {
			t.Fatalf("id %d, version %d, %v", c.ID(), c.Version(), err)
		}
		wantMessage(t, c, "before")
		sent := runAsync(func() error { return c.Send(t.Context(), []uint64{1}, []byte("hello")) })
		h.wantBytes(wire.AppendRelay(nil, []uint64{1}, []byte("hello")))
		if err := waitFor(t, "Send", sent); err != nil {
			t.Error(err)
		}
		far.Close()
		<-c.Done()
		c.Close()
	}
}

// TestSend_RefusedByHub: the refusal goes to the call that waits for a report, or to OnEvent.
func TestSend_RefusedByHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		outcome := make(chan error, 1)
		err := tc.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { outcome <- err })
		if err != nil {
			t.Fatal(err)
		}
		if err := tc.client.Send(t.Context(), []uint64{1}, []byte("x")); err != nil {
			t.Fatal(err)
		}
		h.wantBytes(wire.AppendSend(nil, 1, wire.MakeOptions(wire.LevelReceived, 0), 0, []uint64{1}, nil))
		h.wantBytes(sendFrame(2, "x"))
		h.send(wire.AppendError(nil, 1, wire.ErrorBody, "too much"), wire.AppendError(nil, 2, wire.ErrorBody, "too much"))
		var refused *RefusedError
		if err := <-outcome; !errors.As(err, &refused) || refused.Seq != 1 || refused.Reason != "too much" {
			t.Errorf("got %v", err)
		}
		if e := tc.wantEvent(EventRefused); !errors.As(e.Err, &refused) || refused.Seq != 2 {
			t.Errorf("the event has %v", e.Err)
		}
		if n := tc.client.session.sendQueue.count(); n != 0 {
			t.Errorf("%d messages are queued", n)
		}
	})
}
