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

// welcome is what a hub of version 2 says, unless a test wants it otherwise.
var welcome = wire.Welcome{
	Version: wire.Version2, ID: 7, Resume: "secret", Hub: "a test", Epoch: 1,
	MaxBody: 1000, MaxReceivers: 255, MaxReports: 2, Credit: 1000, Window: 2000, Keepalive: 10_000,
}

// dialog is a client whose hub is the test, over connections without buffers.
type dialog struct {
	t      testing.TB
	client *Client
	hubs   chan *fakeHub // the other ends of the connections, in their order
	events chan Event    // all but those of attempts that have failed
	failed chan Event    // those; what does not fit is dropped
}

// speak makes a client of version 2 that is connected. The first hub is returned with it.
func speak(t testing.TB, change func(*Options)) (*dialog, *fakeHub) {
	t.Helper()
	return speakAs(t, wire.Hello{Version: wire.Version2}, welcome, change)
}

// speakAs is speak for a client that says hello in its own way, and a hub that answers so.
func speakAs(t testing.TB, hello wire.Hello, w wire.Welcome, change func(*Options)) (*dialog, *fakeHub) {
	t.Helper()
	d := &dialog{t: t, hubs: make(chan *fakeHub, 100), events: make(chan Event, 100), failed: make(chan Event, 100)}
	o := Options{Dial: d.dial, OnEvent: d.onEvent}
	if change != nil {
		change(&o)
	}
	made := start(func() error {
		var err error
		d.client, err = Dial(t.Context(), "", &o)
		return err
	})
	h := <-d.hubs
	h.greet(&hello, w)
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.client.fail(ErrClosed) // whatever the hub is
		d.client.Close()
	})
	return d, h
}

func (d *dialog) dial(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	d.t.Cleanup(func() { far.Close() })
	d.hubs <- &fakeHub{d.t, far}
	return near, nil
}

func (d *dialog) onEvent(e Event) {
	if e.Kind != EventReconnectFailed {
		d.events <- e
		return
	}
	select {
	case d.failed <- e:
	default:
	}
}

// greet answers a HELLO, which must be that.
func (h *fakeHub) greet(want *wire.Hello, w wire.Welcome) {
	h.t.Helper()
	h.wantHello(want)
	h.welcome(w)
}

// welcome says WELCOME, and reads what the client says of one that makes it somebody new.
func (h *fakeHub) welcome(w wire.Welcome) {
	h.t.Helper()
	h.send(wire.AppendWelcome(nil, &w), wire.AppendIdentity(nil, w.ID))
	if !w.Resumed {
		h.want(wire.AppendTaken(nil, 0))
	}
}

// wantHello reads a HELLO, which must be that, with what is the same in each of them. What it says
// of Read may be anything, unless something is wanted.
func (h *fakeHub) wantHello(want *wire.Hello) {
	h.t.Helper()
	all := *want
	all.Confirms, all.Skip = true, true
	typ, payload, err := h.next()
	got, _ := wire.ParseHello(payload)
	if all.Read == nil {
		got.Read = nil
	}
	if got, want := wire.AppendHello(nil, &got), wire.AppendHello(nil, &all); err != nil || typ != wire.TypeHello || !bytes.Equal(got, want) {
		h.t.Errorf("the client sent a frame of type %#x: %q (%v), want %q", typ, got, err, want)
	}
	h.want(wire.AppendIdentityRequest(nil))
}

// resumed is how the hub greets one who comes back.
func resumed(change func(*wire.Welcome)) wire.Welcome {
	w := welcome
	w.Resumed = true
	change(&w)
	return w
}

// wantEvent takes the next event.
func (d *dialog) wantEvent(kind EventKind) Event {
	d.t.Helper()
	e := <-d.events
	if e.Kind != kind {
		d.t.Errorf("event %v (%v), want %v", e.Kind, e.Err, kind)
	}
	return e
}

// hear reads the frame that must come next, and returns its payload.
func (h *fakeHub) hear(want wire.Type) ([]byte, error) {
	h.t.Helper()
	got, payload, err := h.next()
	if err != nil || got != want {
		h.t.Errorf("a frame of type %d (%v), want %d", got, err, want)
	}
	return payload, err
}

func send(seq uint64, body string) []byte {
	return wire.AppendSend(nil, seq, 0, 0, []uint64{1}, []byte(body))
}

func deliver(seq uint64, flags wire.Flags) []byte {
	return wire.AppendDeliver(nil, &wire.Deliver{Sender: 1, Seq: seq, Time: 1, Flags: flags, Body: []byte(fmt.Sprint(seq))})
}

// TestSendKeepsToTheCredit looks at what is sent before the hub takes any of it.
func TestSendKeepsToTheCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, func(o *Options) { o.MaxQueued = 3000 })
		body := strings.Repeat("x", 350) // costs 456 bytes: two of them fit
		for range 6 {
			if err := d.client.Send(t.Context(), []uint64{1}, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		last := start(func() error { return d.client.Send(t.Context(), []uint64{1}, []byte(body)) })
		if !blocks(last) {
			t.Fatal("Send takes more than MaxQueued")
		}
		for _, seq := range []uint64{1, 3, 5} {
			h.want(append(send(seq, body), send(seq+1, body)...))
			h.wantSilence()
			h.send(wire.AppendTaken(nil, seq+1))
		}
		h.want(send(7, body))
		if err := <-last; err != nil {
			t.Error(err)
		}
	})
}

// TestOutgoing_ReceiverCost looks at how much is sent to hubs that name what a receiver counts, and
// to one that does not: for each the credit is that of four messages to ten receivers. Then another
// hub goes on, which counts the default.
func TestOutgoing_ReceiverCost(t *testing.T) {
	const receivers = 10
	for _, test := range []struct{ named, cost int }{{0, wire.DefaultReceiverCost}, {1, 1}, {16, 16}, {64, 64}} {
		t.Run(fmt.Sprint(test.named), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				to, body := make([]uint64, receivers), []byte("message")
				one := func(seq uint64) []byte { return wire.AppendSend(nil, seq, 0, 0, to, body) }
				w := welcome
				w.ReceiverCost, w.Credit = test.named, 4*wire.SendCost(receivers, len(body), test.cost)
				d, h := speakAs(t, wire.Hello{Version: wire.Version2}, w, func(o *Options) { o.MaxQueued = 100_000 })
				for range 10 {
					if err := d.client.Send(t.Context(), to, body); err != nil {
						t.Fatal(err)
					}
				}
				h.want(slices.Concat(one(1), one(2), one(3), one(4)))
				h.wantSilence()
				h.Close()
				h = <-d.hubs
				h.hear(wire.TypeHello)
				h.hear(wire.TypeIdentity)
				w.Resumed, w.ReceiverCost, w.Credit = true, 0, 2*wire.SendCost(receivers, len(body), wire.DefaultReceiverCost)
				w.Seq, w.Taken = 1, 0
				h.welcome(w)
				h.want(one(2)) // beside one that it has had and not taken
				h.wantSilence()
				h.send(wire.AppendTaken(nil, 2))
				h.want(append(one(3), one(4)...))
				h.wantSilence()
				o := &d.client.outgoing
				if got := o.cost; got != 8*wire.SendCost(receivers, len(body), wire.DefaultReceiverCost) {
					t.Errorf("what is in line costs %d by now", got)
				}
			})
		})
	}
}

// TestOutgoing_AsksWhenCreditBlocks sends a message that does not fit beside what is under way, of which the hub says by itself
// that it has taken it, or does not. The credit is 1,000.
func TestOutgoing_AsksWhenCreditBlocks(t *testing.T) {
	ping := wire.AppendPing(nil, 1)
	for name, test := range map[string]struct {
		before []int  // bodies, of which each costs 98 more
		ask    []byte // what the client says at once
	}{
		"a small one":             {[]int{0}, ping},
		"two, to which one fits":  {[]int{0, 0}, ping},
		"a quarter of the credit": {[]int{200}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				d, h := speak(t, func(o *Options) { o.MaxQueued = 5000 })
				large := strings.Repeat("x", 1000)
				bodies := append(test.before, len(large))
				var sent []byte
				for i, n := range bodies {
					if err := d.client.Send(t.Context(), []uint64{1}, []byte(large[:n])); err != nil {
						t.Fatal(err)
					}
					if i < len(test.before) {
						sent = append(sent, send(uint64(i+1), large[:n])...)
					}
				}
				h.want(append(sent, test.ask...))
				h.wantSilence() // it asks once
				last := uint64(len(test.before))
				if last > 1 && test.ask != nil { // there is more of which the hub does not say so by itself
					h.send(wire.AppendTaken(nil, last-1))
					h.want(ping)
				}
				h.send(wire.AppendTaken(nil, last), wire.AppendPong(nil, 1))
				h.want(send(last+1, large))
				if took := time.Since(began); took > 10*time.Millisecond {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestOutgoing_AsksWhenLineIsFull has a line that is shorter than what the hub takes before it says so by itself.
func TestOutgoing_AsksWhenLineIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		d, h := speak(t, func(o *Options) { o.MaxQueued = 150 })
		for seq := uint64(1); seq <= 3; seq++ {
			sent := start(func() error { return d.client.Send(t.Context(), []uint64{1}, []byte("small")) })
			if seq > 1 {
				h.want(wire.AppendPing(nil, 1))
				h.wantSilence()
				h.send(wire.AppendTaken(nil, seq-1), wire.AppendPong(nil, 1))
			}
			h.want(send(seq, "small"))
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// wantSilence fails the test if the client says anything for a moment.
func (h *fakeHub) wantSilence() {
	h.t.Helper()
	if err := h.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		h.t.Fatal(err)
	}
	var b [1]byte
	if n, err := h.Read(b[:]); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		h.t.Errorf("the client says %d bytes (%v), want silence", n, err)
	}
	_ = h.SetReadDeadline(time.Time{})
}

// TestASpentCreditIsNotSpentInDribbles: what is sent then leaves together.
func TestASpentCreditIsNotSpentInDribbles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, func(o *Options) { o.MaxQueued = 5000 })
		body := strings.Repeat("x", 140) // costs 246 bytes: four of them fit
		for range 10 {
			if err := d.client.Send(t.Context(), []uint64{1}, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		h.want(slices.Concat(send(1, body), send(2, body), send(3, body), send(4, body)))
		h.send(wire.AppendTaken(nil, 1))
		h.wantSilence()
		h.send(wire.AppendTaken(nil, 2))
		h.want(append(send(5, body), send(6, body)...))
		h.send(wire.AppendTaken(nil, 6))
		h.want(slices.Concat(send(7, body), send(8, body), send(9, body), send(10, body)))
	})
}

// TestASendLargerThanTheCreditGoesAlone as the hub allows.
func TestASendLargerThanTheCreditGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, func(o *Options) { o.MaxQueued = 5000 })
		large := strings.Repeat("x", 1000)
		for _, body := range []string{"small", large, "behind"} {
			if err := d.client.Send(t.Context(), []uint64{1}, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		h.want(append(send(1, "small"), wire.AppendPing(nil, 1)...))
		h.wantSilence()
		h.send(wire.AppendTaken(nil, 1))
		h.want(send(2, large))
		h.wantSilence()
		h.send(wire.AppendTaken(nil, 2))
		h.want(send(3, "behind"))
	})
}

// TestReportsToBeMadeAreCounted sends no more that ask for one than the hub follows.
func TestReportsToBeMadeAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		got := make(chan *Report, 3)
		for i := range 3 {
			err := d.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(r *Report, err error) {
				if err == nil { // those that are left fail at the end
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
		h.want(append(ask(1), ask(2)...))
		h.wantSilence()
		h.send(wire.AppendReport(nil, 2, []byte{byte(wire.FateReceived)}))
		h.want(ask(3))
		if r := <-got; r.Seq != 2 || !slices.Equal(r.Fates, []wire.Fate{wire.FateReceived}) {
			t.Errorf("got %+v", r)
		}
	})
}

// TestComingBack says how many frames were received, drops what comes again, and sends
// again what the hub has not had.
func TestComingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		for i := range 3 {
			if err := d.client.Send(t.Context(), []uint64{1}, []byte(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		h.want(slices.Concat(send(1, "0"), send(2, "1"), send(3, "2")))
		h.send(deliver(1, 0), deliver(2, 0), deliver(3, 0))
		wantMessage(t, d.client, "1")
		wantMessage(t, d.client, "2") // for which the first one is received
		h.Close()
		if e := d.wantEvent(EventDisconnected); !errors.Is(e.Err, ErrHubClosed) {
			t.Errorf("disconnected: %v", e.Err)
		}
		if err := d.client.Send(t.Context(), []uint64{1}, []byte("3")); err != nil {
			t.Fatal(err)
		}
		h = <-d.hubs
		text, _ := h.hear(wire.TypeHello)
		h.hear(wire.TypeIdentity)
		hello, err := wire.ParseHello(text)
		if err != nil || hello.ID != 7 || hello.Resume != "secret" || hello.Received < 1 || hello.Received > 2 {
			t.Errorf("came back with %s, %v", text, err) // the second one is received by now, or not
		}
		w := resumed(func(w *wire.Welcome) { w.Seq, w.Taken, w.Again = 2, 1, 2 })
		h.welcome(w)
		d.wantEvent(EventResumed)
		h.want(append(send(3, "2"), send(4, "3")...))
		for seq := hello.Received + 1; seq <= 4; seq++ {
			h.send(deliver(seq, 0))
		}
		for _, want := range []string{"3", "4"} {
			wantMessage(t, d.client, want)
		}
		if said, _ := h.hear(wire.TypeTaken); !bytes.Equal(said, []byte{7: 3}) && !bytes.Equal(said, []byte{7: 4}) {
			t.Errorf("told % x", said) // after a while
		}
		if got := d.client.Stats().Deliveries; got != 4 {
			t.Errorf("%d deliveries, want 4: what comes again counts once", got)
		}
	})
}

// TestAttemptsMayBreakOff before the hub has said a word, and while it says its first one.
func TestAttemptsMayBreakOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		h.Close()
		d.wantEvent(EventDisconnected)
		(<-d.hubs).Close()
		h = <-d.hubs
		h.hear(wire.TypeHello)
		h.Close()
		h = <-d.hubs
		h.hear(wire.TypeHello)
		h.hear(wire.TypeIdentity)
		h.send(wire.AppendWelcome(nil, &welcome)[:20])
		h.Close()
		h = <-d.hubs
		h.greet(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, resumed(func(*wire.Welcome) {}))
		d.wantEvent(EventResumed)
	})
}

// TestHello_Read says what has come whole, of a connection that had its WELCOME, and nothing of
// another.
func TestHello_Read(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		h.send(deliver(1, 0), deliver(2, 0)[:20])
		h.Close()
		d.wantEvent(EventDisconnected)
		for _, want := range []string{`"read":"1"`, ""} {
			h = <-d.hubs
			payload, err := h.hear(wire.TypeHello)
			if err != nil || !strings.Contains(string(payload), want) || strings.Contains(string(payload), "read") != (want != "") {
				t.Errorf("HELLO %s (%v), want %q in it", payload, err, want)
			}
			h.Close()
		}
	})
}

// TestAttemptsTakeLongerAndLonger when nobody answers: the first is given up soon, for the hub expects the
// client back.
func TestAttemptsTakeLongerAndLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		h.Close()
		d.wantEvent(EventDisconnected)
		for _, patience := range []time.Duration{3 * time.Second, 6 * time.Second, 10 * time.Second, 10 * time.Second} {
			h = <-d.hubs
			began := time.Now()
			h.hear(wire.TypeHello)
			h.hear(wire.TypeIdentity)
			if _, _, err := h.next(); err == nil {
				t.Error("it has more to say")
			}
			if took := time.Since(began); took != patience {
				t.Errorf("given up after %v, want %v", took, patience)
			}
		}
		h = <-d.hubs
		h.greet(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, resumed(func(*wire.Welcome) {}))
		d.wantEvent(EventResumed)
	})
}

// TestAHubThatBecomesOlder speaks version 1 when the client comes back.
func TestAHubThatBecomesOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		h.Close()
		d.wantEvent(EventDisconnected)
		h = <-d.hubs
		h.hear(wire.TypeHello)
		h.hear(wire.TypeIdentity)
		h.send(wire.AppendIdentity(nil, 1))
		go io.Copy(io.Discard, h) // ends with the connection
		<-d.client.Done()
		if err := d.client.Err(); !errors.Is(err, ErrVersion) {
			t.Errorf("the end is %v, want %v", err, ErrVersion)
		}
	})
}

// TestComingBackToAnother has a hub that does not know the client any more.
func TestComingBackToAnother(t *testing.T) {
	for _, resend := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d, h := speak(t, func(o *Options) { o.Resend = resend })
			outcome := make(chan error, 1)
			for i := range 3 {
				if err := d.client.Send(t.Context(), []uint64{1}, []byte(fmt.Sprint(i))); err != nil {
					t.Fatal(err)
				}
			}
			ask := wire.AppendSend(nil, 4, wire.MakeOptions(wire.LevelReceived, 0), 0, []uint64{1}, nil)
			err := d.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { outcome <- err })
			if err != nil {
				t.Fatal(err)
			}
			h.want(slices.Concat(send(1, "0"), send(2, "1"), send(3, "2"), ask))
			h.send(wire.AppendTaken(nil, 1), deliver(1, 0))
			synctest.Wait()
			h.Close()
			d.wantEvent(EventDisconnected)
			if err := d.client.Send(t.Context(), []uint64{1}, []byte("while away")); err != nil {
				t.Fatal(err)
			}
			h = <-d.hubs
			other := welcome
			other.ID, other.Resume = 99, "another"
			h.greet(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, other)
			e := d.wantEvent(EventNewID)
			if e.ID != 99 || d.client.ID() != 99 {
				t.Errorf("the new id is %d, the event says %d", d.client.ID(), e.ID)
			}
			if resend {
				h.want(slices.Concat(send(2, "1"), send(3, "2"), ask, send(5, "while away")))
				h.send(wire.AppendReport(nil, 4, []byte{3}))
				if err := <-outcome; err != nil {
					t.Error(err)
				}
			} else {
				if err := <-outcome; !errors.Is(err, ErrForgotten) {
					t.Errorf("the report: %v, want %v", err, ErrForgotten)
				}
				if e.Unconfirmed != 2 {
					t.Errorf("%d are unconfirmed, want 2", e.Unconfirmed)
				}
				h.want(send(5, "while away"))
			}
			wantMessage(t, d.client, "1") // from before
		})
	}
}

// TestVerdictsAreHeard sends them again on the next connection, until the hub has
// answered a PING behind them.
func TestVerdictsAreHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		h.send(deliver(1, wire.FlagReceived|wire.FlagProcessed), deliver(2, wire.FlagReceived|wire.FlagProcessed))
		judge := func(f func(Message)) {
			m, err := d.client.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f(m)
		}
		judge(Message.Done)
		first := wire.AppendAcks(nil, []wire.Ack{{Sender: 1, Seq: 1, Fate: wire.FateProcessed}})
		h.want(first)
		h.Close()
		d.wantEvent(EventDisconnected)
		judge(Message.Reject)
		h = <-d.hubs
		hello, _ := h.hear(wire.TypeHello) // the second one is received as well by now, or not
		h.hear(wire.TypeIdentity)
		h.send(wire.AppendWelcome(nil, new(resumed(func(*wire.Welcome) {}))), wire.AppendIdentity(nil, 7))
		d.wantEvent(EventResumed)
		h.want(wire.AppendAcks(nil, []wire.Ack{
			{Sender: 1, Seq: 1, Fate: wire.FateProcessed}, {Sender: 1, Seq: 2, Fate: wire.FateRejected},
		}))
		for want := 2; want > 0; want-- { // in either order, or one of them alone
			kind, payload, err := h.next()
			switch {
			case err == nil && kind == wire.TypePing && bytes.Equal(payload, []byte{7: 3}): // behind two verdicts
				h.send(wire.AppendPong(nil, 3))
				want -= bytes.Count(hello, []byte(`"received":"2"`))
			case err == nil && kind == wire.TypeTaken && bytes.Equal(payload, []byte{7: 2}):
			default:
				t.Fatalf("a frame of type %d: % x (%v)", kind, payload, err)
			}
		}
		synctest.Wait()
		if unsure, heard := d.client.verdicts.unsure(); unsure || heard != 2 {
			t.Errorf("the hub has heard %d, and there is doubt: %v", heard, unsure)
		}
	})
}

// TestVerdictsAreHeardWhileMuchIsSent: what the hub takes says nothing about what it has heard.
func TestVerdictsAreHeardWhileMuchIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		h.send(deliver(1, wire.FlagReceived|wire.FlagProcessed))
		wantMessage(t, d.client, "1").Done()
		h.hear(wire.TypeAck)
		for seq := uint64(1); seq < 100; seq++ {
			if err := d.client.Send(t.Context(), []uint64{1}, nil); err != nil {
				t.Fatal(err)
			}
			for {
				kind, payload, err := h.next()
				if err != nil {
					t.Fatal(err)
				}
				if kind == wire.TypePing {
					h.send(wire.AppendPong(nil, binary.BigEndian.Uint64(payload)))
					synctest.Wait()
					if unsure, _ := d.client.verdicts.unsure(); unsure {
						t.Error("the verdict is kept although the hub has heard it")
					}
					return
				}
				if kind == wire.TypeSend {
					break
				}
			}
			h.send(wire.AppendTaken(nil, seq))
			time.Sleep(soonest / 2)
		}
		t.Error("the hub is not asked what it has heard")
	})
}

// TestVerdictsOnWhatNobodyKnows are not said: to another hub they would mean another message.
func TestVerdictsOnWhatNobodyKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		processed := wire.FlagReceived | wire.FlagProcessed
		h.send(deliver(1, processed))
		old := wantMessage(t, d.client, "1")
		h.Close()
		d.wantEvent(EventDisconnected)
		h = <-d.hubs
		text, _ := h.hear(wire.TypeHello)
		h.hear(wire.TypeIdentity)
		if _, err := wire.ParseHello(text); err != nil {
			t.Error(err)
		}
		h.welcome(welcome)
		d.wantEvent(EventNewID)
		h.send(deliver(2, processed))
		young := wantMessage(t, d.client, "2")
		old.Done()
		young.Reject()
		for {
			kind, payload, err := h.next()
			if err != nil {
				t.Fatal(err)
			}
			if kind == wire.TypeAck {
				if want := wire.AppendAcks(nil, []wire.Ack{{Sender: 1, Seq: 2, Fate: wire.FateRejected}})[wire.HeaderSize:]; !bytes.Equal(payload, want) {
					t.Errorf("said % x, want % x", payload, want)
				}
				return
			}
		}
	})
}

// TestCloseIsToldOfAHubThatEnds: what was sent when it did not listen any more is lost.
func TestCloseIsToldOfAHubThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		if err := d.client.Send(t.Context(), []uint64{1}, nil); err != nil {
			t.Fatal(err)
		}
		h.hear(wire.TypeSend)
		closed := start(d.client.Close)
		h.hear(wire.TypeBye)
		h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayShutdown, Reconnect: true}))
		h.Close()
		if err := <-closed; err == nil || !strings.Contains(err.Error(), "1 messages") {
			t.Errorf("Close says %v", err)
		}
	})
}

// TestAPingIsAnswered and silence is noticed.
func TestAPingIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		h.send(wire.AppendPing(nil, 42))
		h.want(wire.AppendPong(nil, 42))
		begin := time.Now()
		go io.Copy(io.Discard, h) // ends with the connection
		e := d.wantEvent(EventDisconnected)
		if took := time.Since(begin); took < 20*time.Second || took > 30*time.Second || !errors.Is(e.Err, ErrLost) {
			t.Errorf("given up after %v: %v, want after two intervals of 10s", took, e.Err)
		}
	})
}

// TestAPingAsksForWhatWasReceived says it before the PONG.
func TestAPingAsksForWhatWasReceived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		h.send(deliver(1, 0), deliver(2, 0))
		for range 2 { // whoever comes for the second one has received the first
			if _, err := d.client.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		h.send(wire.AppendPing(nil, 42))
		h.want(wire.AppendTaken(nil, 1))
		h.want(wire.AppendPong(nil, 42))
		if took := time.Since(begin); took != 0 {
			t.Errorf("told after %v", took)
		}
		h.Close()
		d.client.fail(ErrClosed)
	})
}

// TestATickTellsOnlyWhatIsOld does not add to what half of the window has just caused.
func TestATickTellsOnlyWhatIsOld(t *testing.T) {
	var b inbox
	b.init(0, func() {}, func() {})
	b.attach(new(link), 100, true)
	come := func(n uint64) { // n messages in all, each handed over at once
		b.push(nil, mark{frames: n, bytes: 60 * n}, false, false)
	}
	come(1)
	if upTo, _ := b.claim(); upTo != 1 {
		t.Fatalf("half of the window tells of %d, want 1", upTo)
	}
	b.told()
	b.tick()
	come(2)
	b.claim()
	b.told()
	come(3)
	if due, more := b.tick(); due || !more {
		t.Errorf("due %v, more %v at a tick behind a TAKEN, want only more", due, more)
	}
	if due, _ := b.tick(); !due {
		t.Error("what came before the last tick is not told at the next")
	}
}

// TestNothingIsSaidAfterBye although a PING is to be answered, and it is not said what the hub has taken.
func TestNothingIsSaidAfterBye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		if err := d.client.Send(t.Context(), []uint64{1}, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		h.want(send(1, "hello"))
		closed := start(d.client.Close)
		h.hear(wire.TypeBye)
		h.send(wire.AppendPing(nil, 42), deliver(1, wire.FlagReceived))
		time.Sleep(2 * time.Second) // many ticks, at which it would be asked
		if err := h.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if kind, _, err := h.next(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a frame of type %d (%v) after BYE", kind, err)
		}
		h.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// TestTheHubSaysWhenToComeBack and the client waits for that long.
func TestTheHubSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		begin := time.Now()
		h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayShutdown, Reconnect: true, After: 60_000}))
		h.Close()
		d.wantEvent(EventDisconnected)
		<-d.hubs
		if took := time.Since(begin); took < time.Minute || took > time.Minute+firstPause {
			t.Errorf("came back after %v", took)
		}
	})
}

func TestWhoIsSentAwayForGoodStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayTakenOver, Reason: "another"}))
		h.Close()
		<-d.client.Done()
		var away *GoAwayError
		if err := d.client.Err(); !errors.As(err, &away) || away.Code != wire.GoAwayTakenOver || away.Reason != "another" {
			t.Errorf("the end is %v", err)
		}
		d.wantEvent(EventClosed)
	})
}

// TestWhatIsOverIsRenewed as long as there is hope.
func TestWhatIsOverIsRenewed(t *testing.T) {
	atOnce := func(took time.Duration) bool { return took == 0 }
	inTheEnd := func(took time.Duration) bool { return took > maxRenewal && took < maxRenewal+longestPause }
	certificate := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, nil }
	for name, test := range map[string]struct {
		token func(context.Context) (string, error)
		tls   *tls.Config
		ends  func(took time.Duration) bool // nil: it is welcome in the end
	}{
		"by nobody":         {ends: atOnce},
		"by no certificate": {tls: &tls.Config{}, ends: atOnce},
		"by the same token": {token: renewing(time.Hour, "old"), ends: inTheEnd},
		"by a certificate":  {tls: &tls.Config{GetClientCertificate: certificate}, ends: inTheEnd},
		"late":              {token: renewing(30*time.Second, "old", "new")},
		"by what is over":   {token: renewing(5*time.Second, slices.Concat(strings.Split("abcdefghijklmnopq", ""), []string{"new"})...)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, h := speak(t, nil)
				d.client.options.Token, d.client.options.TLS = test.token, test.tls
				begin, enough := time.Now(), time.After(10*time.Minute)
				h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayExpired, Reconnect: true}))
				h.Close()
				for back := false; !back; {
					select {
					case h := <-d.hubs:
						back = h.renewed("new")
					case <-d.client.Done():
						var away *GoAwayError
						if err := d.client.Err(); !errors.As(err, &away) || away.Code != wire.GoAwayExpired {
							t.Errorf("the end is %v", err)
						}
						if took := time.Since(begin); test.ends == nil || !test.ends(took) {
							t.Errorf("over after %v", took)
						}
						return
					case <-enough:
						t.Fatal("it tries for ever")
					}
				}
				if test.ends != nil {
					t.Error("it is welcome")
				}
			})
		})
	}
}

// renewing returns a source of tokens, each of which is there for so long.
func renewing(each time.Duration, list ...string) func(context.Context) (string, error) {
	var begin time.Time // of the first question
	return func(context.Context) (string, error) {
		if begin.IsZero() {
			begin = time.Now()
		}
		return list[min(int(time.Since(begin)/each), len(list)-1)], nil
	}
}

// renewed answers a HELLO by a WELCOME if it comes with the right token, and otherwise sends away.
func (h *fakeHub) renewed(right string) bool {
	payload, err := h.hear(wire.TypeHello)
	if err != nil {
		return false
	}
	hello, err := wire.ParseHello(payload)
	if err != nil {
		h.t.Error(err)
	}
	h.want(wire.AppendIdentityRequest(nil))
	if hello.Token == right {
		h.welcome(welcome)
		return true
	}
	h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayExpired, Reconnect: true}))
	h.Close()
	return false
}

// TestAttemptsAreSpread looks at the pauses between attempts that fail.
func TestAttemptsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts []time.Time
		d, h := speak(t, nil)
		d.client.options.Dial = func(context.Context) (net.Conn, error) {
			attempts = append(attempts, time.Now())
			return nil, errors.New("no way")
		}
		last := time.Now()
		h.Close()
		d.wantEvent(EventDisconnected)
		time.Sleep(10 * time.Minute)
		d.client.fail(ErrClosed)
		synctest.Wait()
		for i, at := range attempts {
			if pause, most := at.Sub(last), min(longestPause, firstPause<<min(i, 16)); pause > most {
				t.Errorf("pause %d takes %v, at most %v are allowed", i, pause, most)
			}
			last = at
		}
		if n := len(attempts); n < 30 || n > 300 { // 60 on average, and the first few
			t.Errorf("%d attempts in 10 minutes", n)
		}
	})
}

// TestCloseTellsWhatWasReceived and says goodbye.
func TestCloseTellsWhatWasReceived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		h.send(deliver(1, 0), deliver(2, 0))
		wantMessage(t, d.client, "1")
		closed := start(d.client.Close)
		h.want(wire.AppendBye(wire.AppendTaken(nil, 1)))
		h.wantEnd()
		h.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// TestClosingOnTheWayBack has the client lose its connection, and closes it before the hub
// has said WELCOME again.
func TestClosingOnTheWayBack(t *testing.T) {
	away := func(t *testing.T, sent int) (*dialog, *fakeHub) {
		d, h := speak(t, nil)
		h.Close()
		d.wantEvent(EventDisconnected)
		for i := range sent {
			if err := d.client.Send(t.Context(), []uint64{1}, []byte(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		h = <-d.hubs
		h.hear(wire.TypeHello)
		h.hear(wire.TypeIdentity)
		return d, h
	}
	t.Run("with nothing to send", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, _ := away(t, 0)
			begun := time.Now()
			if err := d.client.Close(); err != nil || time.Since(begun) > 0 {
				t.Errorf("Close took %v: %v", time.Since(begun), err)
			}
		})
	})
	t.Run("with something to send", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, h := away(t, 1)
			closed := start(d.client.Close)
			if !blocks(closed) {
				t.Fatal("Close does not wait for the way back")
			}
			w := resumed(func(*wire.Welcome) {})
			h.welcome(w)
			h.want(wire.AppendBye(send(1, "0")))
			h.Close()
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("to a hub that says nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, _ := away(t, 2)
			begun := time.Now()
			err := d.client.Close()
			if took := time.Since(begun); took != d.client.options.CloseTimeout {
				t.Errorf("Close took %v, want %v", took, d.client.options.CloseTimeout)
			}
			if !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "2 messages") {
				t.Errorf("Close says %v", err)
			}
		})
	})
}

// TestNothingIsTakenBehindBye: Send fails rather than to take what would not be sent.
func TestNothingIsTakenBehindBye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := speak(t, nil)
		if !d.client.outgoing.fly(d.client.current(), nil) {
			t.Fatal("the connection is over")
		}
		if err := d.client.Send(t.Context(), []uint64{1}, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Send says %v, want %v", err, ErrClosed)
		}
	})
}

// TestWhatIsReportedIsNotSentAgain to a hub that does not know the client, although the
// one before had not said that it has taken it.
func TestWhatIsReportedIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, func(o *Options) { o.Resend = true })
		outcome := make(chan error, 1)
		err := d.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { outcome <- err })
		if err != nil {
			t.Fatal(err)
		}
		if err := d.client.Send(t.Context(), []uint64{1}, []byte("2")); err != nil {
			t.Fatal(err)
		}
		h.hear(wire.TypeSend)
		h.want(send(2, "2"))
		h.send(wire.AppendReport(nil, 1, []byte{byte(wire.FateReceived)}))
		if err := <-outcome; err != nil {
			t.Error(err)
		}
		h.Close()
		d.wantEvent(EventDisconnected)
		h = <-d.hubs
		h.greet(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret", Received: 1}, welcome)
		h.want(send(2, "2"))
	})
}

// TestReportsOfALongCloseCountOnce loses the connection of a client that is closing, and
// has a hub that sends again what was not acknowledged.
func TestReportsOfALongCloseCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, func(o *Options) { o.MaxQueued = 5000 })
		outcome := make(chan error, 1)
		err := d.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { outcome <- err })
		if err != nil {
			t.Fatal(err)
		}
		large := strings.Repeat("x", 900)
		if err := d.client.Send(t.Context(), []uint64{1}, []byte(large)); err != nil { // more than the credit that is left
			t.Fatal(err)
		}
		h.hear(wire.TypeSend)
		closed := start(d.client.Close)
		synctest.Wait()
		report := wire.AppendReport(nil, 1, []byte{byte(wire.FateReceived)})
		h.send(report)
		if err := <-outcome; err != nil {
			t.Error(err)
		}
		h.Close()
		d.wantEvent(EventDisconnected)
		h = <-d.hubs
		h.greet(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"},
			resumed(func(w *wire.Welcome) { w.Seq, w.Taken, w.Again = 1, 1, 1 }))
		h.want(send(2, large))
		h.send(report)
		h.hear(wire.TypeBye)
		h.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// TestMuchIsToldOfSoon says what was received before half of the window is full.
func TestMuchIsToldOfSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		var frames []byte
		n := uint64(0)
		for len(frames) < welcome.Window/2 {
			n++
			frames = append(frames, deliver(n, 0)...)
		}
		begin := time.Now()
		h.send(frames)
		received := start(func() error {
			for range n + 1 {
				if _, err := d.client.Receive(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
		h.want(wire.AppendTaken(nil, n))
		if took := time.Since(begin); took != 0 {
			t.Errorf("told after %v", took)
		}
		h.send(deliver(n+1, wire.FlagReceived))
		if err := <-received; err != nil {
			t.Error(err)
		}
		back := start(func() error { _, err := d.client.Receive(t.Context()); return err })
		h.want(wire.AppendTaken(nil, n+1)) // somebody waits to hear that
		if took := time.Since(begin); took != 0 {
			t.Errorf("told after %v", took)
		}
		h.Close()
		d.client.fail(ErrClosed)
		<-back
	})
}

// TestWhatAHubOfVersion2MustNotSay ends the client: to come back would be of no use.
func TestWhatAHubOfVersion2MustNotSay(t *testing.T) {
	number := func(b []byte) []byte { b[3]--; return b[:len(b)-1] } // a number of 7 bytes
	for name, said := range map[string][]byte{
		"TAKEN above what was sent":      wire.AppendTaken(nil, 1),
		"a short TAKEN":                  number(wire.AppendTaken(nil, 1)),
		"a short PING":                   number(wire.AppendPing(nil, 1)),
		"a short PONG":                   number(wire.AppendPong(nil, 1)),
		"a PONG that nobody waits for":   wire.AppendPong(nil, 0),
		"a report that nobody waits for": wire.AppendReport(nil, 1, nil),
		"a report of fewer than it says": {0, 0, 0, 10, byte(wire.TypeReport), 0, 0, 0, 0, 0, 0, 0, 1, 5},
		"a second WELCOME":               wire.AppendWelcome(nil, &welcome),
		"a page that nobody asked for":   wire.AppendListPage(nil, 0, false, nil),
		"a torn PRESENCE":                {0, 0, 0, 2, byte(wire.TypePresence), 1},
		"a torn ERROR":                   {0, 0, 0, 2, byte(wire.TypeError), 1},
		"a GOAWAY that is no JSON":       {0, 0, 0, 2, byte(wire.TypeGoAway), '{'},
		"a DELIVER without a head":       {0, 0, 0, 2, byte(wire.TypeDeliver), 1},
		"a body above the limit":         wire.AppendDeliver(nil, &wire.Deliver{Body: make([]byte, wire.DefaultMaxBody+1)}),
		"a SEND":                         send(1, ""),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, h := speak(t, nil)
				go h.Write(said) // ends when the client has had enough
				<-d.client.Done()
				if err := d.client.Err(); !errors.Is(err, ErrProtocol) {
					t.Errorf("the end is %v, want %v", err, ErrProtocol)
				}
			})
		})
	}
}

func TestWelcomesThatCannotBe(t *testing.T) {
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
			made := start(func() error { _, err := New(t.Context(), near, nil); return err })
			w := welcome
			change(&w)
			h.wantHello(&wire.Hello{Version: wire.Version2})
			go h.Write(wire.AppendWelcome(nil, &w)) // ends when the client has had enough
			if err := within(t, "an error", made); !errors.Is(err, ErrProtocol) {
				t.Errorf("got %v, want %v", err, ErrProtocol)
			}
		})
	}
}

// TestAHubOfVersion1 ignores the HELLO.
func TestAHubOfVersion1(t *testing.T) {
	for _, version := range []int{0, 2} {
		near, far := net.Pipe()
		defer far.Close()
		h := &fakeHub{t, far}
		var c *Client
		made := start(func() (err error) {
			c, err = New(t.Context(), near, &Options{Version: version})
			return err
		})
		h.wantHello(&wire.Hello{Version: wire.Version2})
		go h.Write(append(delivery("before"), wire.AppendIdentity(nil, 5)...)) // ends when the client has read it
		err := within(t, "New", made)
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
		sent := start(func() error { return c.Send(t.Context(), []uint64{1}, []byte("hello")) })
		h.want(wire.AppendRelay(nil, []uint64{1}, []byte("hello")))
		if err := within(t, "Send", sent); err != nil {
			t.Error(err)
		}
		far.Close()
		<-c.Done()
		c.Close()
	}
}

// TestARefusedMessage is told to the one who waits, or to all.
func TestARefusedMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		outcome := make(chan error, 1)
		err := d.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { outcome <- err })
		if err != nil {
			t.Fatal(err)
		}
		if err := d.client.Send(t.Context(), []uint64{1}, []byte("x")); err != nil {
			t.Fatal(err)
		}
		h.want(wire.AppendSend(nil, 1, wire.MakeOptions(wire.LevelReceived, 0), 0, []uint64{1}, nil))
		h.want(send(2, "x"))
		h.send(wire.AppendError(nil, 1, wire.ErrorBody, "too much"), wire.AppendError(nil, 2, wire.ErrorBody, "too much"))
		var refused *RefusedError
		if err := <-outcome; !errors.As(err, &refused) || refused.Seq != 1 || refused.Reason != "too much" {
			t.Errorf("got %v", err)
		}
		if e := d.wantEvent(EventRefused); !errors.As(e.Err, &refused) || refused.Seq != 2 {
			t.Errorf("the event says %v", e.Err)
		}
		if n := d.client.outgoing.left(); n != 0 {
			t.Errorf("%d messages are in line", n)
		}
	})
}
