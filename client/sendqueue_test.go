package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

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
