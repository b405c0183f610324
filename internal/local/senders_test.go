package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// waits are the reasons for which a Send waits to send.
var waits = map[string]struct {
	limits limits
	send   Send
}{
	"credit": {limits{credit: 4 << 10}, Send{From: 1, To: []uint64{5}, Body: make([]byte, 20_000)}},
	"reports": {
		limits{maxReports: 1},
		Send{From: 1, To: []uint64{5}, Body: make([]byte, 2000), Options: wire.MakeOptions(wire.LevelReceived, wire.OverflowBlock)},
	},
	"memory": {limits{memory: 8 << 10}, Send{From: 1, To: []uint64{5}, Body: make([]byte, 6000)}},
}

// onWaits runs a test with a Send that waits for each reason. The receiver has id 5.
func onWaits(t *testing.T, test func(t *testing.T, h *testHub, r *Receiver, waiting *pending)) {
	for name, w := range waits {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHub(t, w.limits)
				r := h.addReceiver(5, 4<<10)
				for range 1000 {
					if p := h.start(t, w.send); !p.done.Load() && !h.waitsForReport(1) {
						test(t, h, r, p)
						return
					}
				}
				t.Fatal("no Send waits")
			})
		})
	}
}

// waitsForReport reports whether no Send of the sender waits to send.
func (h *testHub) waitsForReport(from uint64) bool {
	o := h.sender(from)
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting == 0
}

// sender returns a sender, or nil if it was forgotten.
func (h *testHub) sender(id uint64) *sender {
	h.Senders.mu.Lock()
	defer h.Senders.mu.Unlock()
	return h.byID[id]
}

// TestSenders_Send_EndsWithContext ends the context of Sends that wait. They send nothing, and
// the next Send takes their place.
func TestSenders_Send_EndsWithContext(t *testing.T) {
	onWaits(t, func(t *testing.T, h *testHub, r *Receiver, waiting *pending) {
		messages := h.messages.Load()
		waiting.cancel()
		waiting.expectEnd(t, context.Canceled)
		if got := h.messages.Load(); got != messages {
			t.Errorf("%d messages were sent", got-messages)
		}
		next := h.start(t, Send{From: 1, To: []uint64{5}, Body: make([]byte, 20_000), Options: wire.MakeOptions(wire.LevelReceived, wire.OverflowBlock)})
		next.expectWaiting(t)
		for !next.done.Load() {
			if _, err := r.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		next.expectEnd(t, nil)
	})
}

// TestSenders_Send_EndsWithShutdown shuts down while a Send waits. It sends nothing.
func TestSenders_Send_EndsWithShutdown(t *testing.T) {
	onWaits(t, func(t *testing.T, h *testHub, _ *Receiver, waiting *pending) {
		messages := h.messages.Load()
		h.end(t)
		waiting.expectEnd(t, errTestClosed)
		if got := h.messages.Load(); got != messages {
			t.Errorf("%d messages were sent", got-messages)
		}
		if _, err := h.Send(t.Context(), &Send{From: 1, To: []uint64{5}}); !errors.Is(err, errTestClosed) {
			t.Errorf("a later Send: %v", err)
		}
	})
}

// TestSenders_Send_ReportAfterContext ends the context of a Send that waits for its report. The
// message is delivered, and its report still counts until it has come.
func TestSenders_Send_ReportAfterContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{maxReports: 1})
		r := h.addReceiver(5, 4<<10)
		send := Send{From: 1, To: []uint64{5}, Body: numbered(1, 8), Options: wire.MakeOptions(wire.LevelReceived, wire.OverflowBlock)}
		p := h.start(t, send)
		p.expectWaiting(t)
		p.cancel()
		p.expectEnd(t, context.Canceled)
		o := h.sender(1)
		if len(o.fates) != 0 || o.reports != 1 {
			t.Errorf("%d Sends wait for %d reports", len(o.fates), o.reports)
		}
		send.Body = numbered(2, 8)
		next := h.start(t, send)
		next.expectWaiting(t)
		expectNumbered(t, r, 1, 8)
		next.expectWaiting(t)
		expectNumbered(t, r, 2, 8)
		next.expectEnd(t, nil)
		if !slices.Equal(next.report.Fates, []wire.Fate{wire.FateReceived}) {
			t.Errorf("the fates are %v", next.report.Fates)
		}
	})
}

// TestSenders_Send_CanceledContext sends nothing.
func TestSenders_Send_CanceledContext(t *testing.T) {
	h := newTestHub(t, limits{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Send(ctx, &Send{From: 1, To: []uint64{5}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Send: %v", err)
	}
	if n := h.messages.Load(); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
}

// TestSenders_Send_FatePerReceiver sends to the same receiver twice, to another and to none.
func TestSenders_Send_FatePerReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{})
		a, b := h.addReceiver(5, 4<<10), h.addReceiver(6, 4<<10)
		p := h.start(t, Send{From: 1, To: []uint64{5, 9, 6, 5}, Body: numbered(7, 20), Options: wire.MakeOptions(wire.LevelProcessed, wire.OverflowBlock)})
		m := expectNumbered(t, a, 7, 20)
		expectNumbered(t, a, 7, 20)
		expectNumbered(t, b, 7, 20)
		a.Verdict(1, m.Seq, wire.FateProcessed)
		p.expectWaiting(t)
		b.Verdict(1, m.Seq, wire.FateRejected)
		a.Verdict(1, m.Seq, wire.FateRejected) // too late
		p.expectEnd(t, nil)
		want := []wire.Fate{wire.FateProcessed, wire.FateUnknown, wire.FateRejected, wire.FateProcessed}
		if !slices.Equal(p.report.Fates, want) || p.report.Seq != m.Seq {
			t.Errorf("the report is %v, want %v of %d", p.report, want, m.Seq)
		}
		if h.messages.Load() != 1 || h.deliveries.Load() != 4 {
			t.Errorf("counted %d messages to %d receivers", h.messages.Load(), h.deliveries.Load())
		}
	})
}

// TestSenders_Send_NoReceivers returns an empty report at once.
func TestSenders_Send_NoReceivers(t *testing.T) {
	h := newTestHub(t, limits{})
	first := h.sendTo(t, 1, nil)
	report, err := h.sendLevel(t.Context(), 1, wire.LevelProcessed, nil)
	if err != nil || report.Seq <= first || len(report.Fates) != 0 {
		t.Errorf("the report is %v, %v", report, err)
	}
	if h.messages.Load() != 2 || h.deliveries.Load() != 0 {
		t.Errorf("counted %d messages to %d receivers", h.messages.Load(), h.deliveries.Load())
	}
}

// TestSenders_Seq_IncreasesAfterSweep lets a sender be forgotten that has sent more messages than
// microseconds have passed. The seqs of its next messages are larger.
func TestSenders_Seq_IncreasesAfterSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{})
		last := make(map[uint64]uint64)
		send := func(from uint64) {
			if seq := h.sendTo(t, from, nil, 5); seq <= last[from] {
				t.Fatalf("sender %d: seq %d after %d", from, seq, last[from])
			} else {
				last[from] = seq
			}
		}
		for range 1000 {
			send(1)
		}
		for range 3 {
			synctest.Wait()
			for from := uint64(2); h.sender(1) != nil; from++ {
				send(from)
				synctest.Wait()
				if from > 10*minSweep {
					t.Fatal("the sender is never forgotten")
				}
			}
			send(1)
		}
	})
}

// createSenders creates so many senders, with ids from first on, that unused ones are forgotten.
func (h *testHub) createSenders(t testing.TB, first uint64) {
	for from := first; from < first+3*minSweep; from++ {
		h.sendTo(t, from, nil, 8)
		synctest.Wait()
	}
}

// TestSenders_Sweep_KeepsUsed checks which senders are forgotten.
func TestSenders_Sweep_KeepsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{credit: 4 << 10})
		full, gate := h.addReceiver(5, 4<<10), newGate()
		h.addReceiver(6, 4<<10)
		h.add(7, gate)
		for range 6 { // the last ones stay in the queue, and the memory in use
			h.sendTo(t, 1, make([]byte, 20_000), 5)
			synctest.Wait()
		}
		for range 3 { // blocked, and the last one waits for credit
			h.start(t, Send{From: 2, To: []uint64{5}, Body: make([]byte, 20_000)})
		}
		h.start(t, Send{From: 3, To: []uint64{6}, Options: wire.MakeOptions(wire.LevelReceived, wire.OverflowBlock)})
		h.sendTo(t, 4, nil, 7) // not offered
		synctest.Wait()
		abandoned := h.start(t, Send{From: 5, To: []uint64{6}, Options: wire.MakeOptions(wire.LevelReceived, wire.OverflowBlock)})
		abandoned.cancel()
		abandoned.expectEnd(t, context.Canceled)
		h.createSenders(t, 100)
		for from := uint64(1); from <= 5; from++ {
			if h.sender(from) == nil {
				t.Errorf("sender %d is forgotten", from)
			}
		}
		if n := len(h.byID); n > minSweep+10 {
			t.Errorf("%d senders are known", n)
		}
		close(gate.open)
		full.Stop(errTestClosed)
		full.Close()
		r := h.receivers[1]
		for range 2 {
			if _, err := r.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		h.createSenders(t, 1000)
		for from := uint64(1); from <= 5; from++ {
			if h.sender(from) != nil {
				t.Errorf("sender %d is not forgotten", from)
			}
		}
	})
}

// TestSenders_Send_Concurrent sends from many goroutines to Receivers with small queues, while
// senders are forgotten. Each receiver gets the messages of each goroutine in order.
func TestSenders_Send_Concurrent(t *testing.T) {
	const goroutines, each, receivers = 12, 200, 3
	h := newTestHub(t, limits{credit: 8 << 10, maxReports: 4, memory: 200 << 10})
	var wg sync.WaitGroup
	var to []uint64
	for id := uint64(1); id <= receivers; id++ {
		r := h.addReceiver(id, 4<<10)
		to = append(to, id)
		wg.Go(func() {
			next := make([]int, goroutines)
			for range goroutines * each {
				m, err := r.Receive(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				g := int(m.Body[7])
				want := fmt.Appendf(nil, "%s message %d", m.Body[:8], next[g])
				if next[g]++; string(m.Body[:len(want)]) != string(want) || m.Sender != uint64(g%3)+100 {
					t.Errorf("message %.30q from %d, want %q", m.Body, m.Sender, want)
				}
			}
		})
	}
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				body := fmt.Appendf(nil, "1234567%c message %d", g, i)
				body = append(body, make([]byte, (i*i*37+g)%3000)...)
				level := wire.LevelNone
				if i%5 == g%5 {
					level = wire.LevelReceived
				}
				if _, err := h.sendLevel(t.Context(), uint64(g%3)+100, level, body, to...); err != nil {
					t.Error(err)
					return
				}
				clear(body) // Send has copied it
			}
		})
	}
	for from := uint64(1000); from < 1000+5*minSweep; from++ {
		h.sendTo(t, from, nil, 99)
	}
	wg.Wait()
}

// TestSenders_Send_ReportTimeout returns the fates as they stand when the report timeout is over.
func TestSenders_Send_ReportTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{})
		h.addReceiver(5, 4<<10)
		begin := time.Now()
		report, err := h.sendLevel(t.Context(), 1, wire.LevelReceived, nil, 5)
		if err != nil || !slices.Equal(report.Fates, []wire.Fate{wire.FateWritten}) || time.Since(begin) != time.Minute {
			t.Errorf("after %v: %v, %v", time.Since(begin), report, err)
		}
	})
}
