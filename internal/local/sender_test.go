package local

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// fill sends messages of 20,000 bytes to a Receiver until its inbox and its queue are full. It
// returns the number of messages.
func (h *testHub) fill(t testing.TB, r *Receiver, id uint64) (n int) {
	t.Helper()
	for size := -1; ; n++ {
		p := r.Progress()
		if p.Queued == size {
			t.Fatal("the queue does not grow")
		}
		if p.Queued >= r.config.Outbox.MaxBytes {
			return n
		}
		if p.Busy {
			size = p.Queued
		}
		h.sendTo(t, 1000, numbered(n, 20_000), id)
		synctest.Wait()
	}
}

// drain receives n messages of 20,000 bytes from a Receiver that fill has filled.
func drain(t testing.TB, r *Receiver, n int) {
	t.Helper()
	for i := range n {
		expectNumbered(t, r, i, 20_000)
		synctest.Wait()
	}
}

// TestSender_Credit_BlocksSend sends to a full Receiver. The credit, and the messages that fit in
// the credit for receivers, are in flight; the next Send waits until one of them is queued.
func TestSender_Credit_BlocksSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const credit, size = 8 << 10, 1000
		h := newTestHub(t, limits{credit: credit})
		full := h.addReceiver(5, 4<<10)
		filled := h.fill(t, full, 5)
		cost := relay.CostOf(1, size).InFlight
		fits := 0
		for relay.FitsCredit(fits*cost, cost, credit) {
			h.start(t, Send{From: 1, To: []uint64{5}, Body: numbered(fits, size)}).expectEnd(t, nil)
			fits++
		}
		waiting := h.start(t, Send{From: 1, To: []uint64{5}, Body: numbered(fits, size)})
		waiting.expectWaiting(t)
		if in := h.sender(1).window.Bytes(); in != fits*cost {
			t.Errorf("%d bytes in flight, want %d", in, fits*cost)
		}
		h.start(t, Send{From: 2, To: []uint64{5}}).expectEnd(t, nil) // each sender has its own credit
		drain(t, full, filled)
		waiting.expectEnd(t, nil)
		for i := range fits {
			expectNumbered(t, full, i, size)
		}
		if m, err := full.Receive(t.Context()); err != nil || m.Sender != 2 && m.Sender != 1 {
			t.Errorf("the last messages are from %d, %v", m.Sender, err)
		}
	})
}

// TestSender_Credit_LargeMessageAlone checks that a message above the credit is sent when nothing
// is in flight.
func TestSender_Credit_LargeMessageAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{credit: 4 << 10})
		full := h.addReceiver(5, 4<<10)
		filled := h.fill(t, full, 5)
		h.start(t, Send{From: 1, To: []uint64{5}, Body: numbered(1, 1<<20)}).expectEnd(t, nil)
		waiting := h.start(t, Send{From: 1, To: []uint64{5}, Body: numbered(2, 1<<20)})
		waiting.expectWaiting(t)
		drain(t, full, filled)
		expectNumbered(t, full, 1, 1<<20)
		expectNumbered(t, full, 2, 1<<20)
		waiting.expectEnd(t, nil)
	})
}

// TestSender_MaxReports_BlocksSend has MaxReports reports pending. A message that requests none is
// not blocked.
func TestSender_MaxReports_BlocksSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{maxReports: 3})
		r := h.addReceiver(5, 4<<10)
		var sends []*pending
		send := Send{From: 1, To: []uint64{5}, Options: wire.MakeOptions(wire.LevelReceived, wire.OverflowBlock)}
		for i := range 3 {
			send.Body = numbered(i, 8)
			sends = append(sends, h.start(t, send))
		}
		h.start(t, Send{From: 1, To: []uint64{5}, Body: numbered(3, 8)}).expectEnd(t, nil)
		send.Body = numbered(4, 8)
		sends = append(sends, h.start(t, send))
		last := h.start(t, Send{From: 1, To: []uint64{5}, Body: numbered(5, 8)}) // not before the one that waits
		last.expectWaiting(t)
		if n := h.sender(1).reports; n != 3 {
			t.Errorf("%d reports are pending", n)
		}
		for i := range 6 {
			expectNumbered(t, r, i, 8)
		}
		for _, p := range append(sends, last) {
			p.expectEnd(t, nil)
		}
		if n := h.sender(1).reports; n != 0 {
			t.Errorf("%d reports are pending at the end", n)
		}
	})
}

// TestSender_Memory_BlocksSend has the quota of a sender in use. The Send that waits for memory
// requests acknowledgements from its receivers, and goes on when memory is released.
func TestSender_Memory_BlocksSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{memory: 40 << 10})
		r := h.addReceiver(5, 4<<10)
		h.sendTo(t, 1, numbered(1, 30_000), 5)
		synctest.Wait()
		waiting := h.start(t, Send{From: 1, To: []uint64{6, 5}, Body: numbered(2, 20_000)})
		waiting.expectWaiting(t)
		if want := [][]uint64{{6, 5}}; !slices.EqualFunc(h.ackRequests, want, slices.Equal) {
			t.Errorf("acknowledgements were requested of %v", h.ackRequests)
		}
		behind := h.start(t, Send{From: 1, To: []uint64{5}, Body: numbered(3, 10)}) // keeps the order
		behind.expectWaiting(t)
		h.start(t, Send{From: 2, To: []uint64{7}, Body: numbered(2, 20_000)}).expectEnd(t, nil)
		expectNumbered(t, r, 1, 30_000)
		waiting.expectEnd(t, nil)
		behind.expectEnd(t, nil)
		expectNumbered(t, r, 2, 20_000)
		expectNumbered(t, r, 3, 10)
	})
}

// TestSender_Memory_AboveQuota sends bodies larger than the quota, one after the other.
func TestSender_Memory_AboveQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{memory: 10 << 10})
		r := h.addReceiver(5, 4<<10)
		h.sendTo(t, 1, numbered(1, 100_000), 5)
		waiting := h.start(t, Send{From: 1, To: []uint64{5}, Body: numbered(2, 200_000)})
		waiting.expectWaiting(t)
		expectNumbered(t, r, 1, 100_000)
		waiting.expectEnd(t, nil)
		expectNumbered(t, r, 2, 200_000)
	})
}

// TestSender_WaitingSends_KeepOrder has many Sends wait. They go on in the order in which they
// were called, although later ones would fit earlier, and without those whose context has ended.
func TestSender_WaitingSends_KeepOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{credit: 4 << 10, maxReports: 2})
		full := h.addReceiver(5, 4<<10)
		filled := h.fill(t, full, 5)
		h.start(t, Send{From: 1, To: []uint64{5}, Body: numbered(0, 20_000)}).expectEnd(t, nil)
		var sends []*pending
		for i := 1; i <= 30; i++ {
			send := Send{From: 1, To: []uint64{5}, Body: numbered(i, 8+i*7919%4000)}
			if i%4 == 0 {
				send.Options = wire.MakeOptions(wire.LevelReceived, wire.OverflowBlock)
			}
			p := h.start(t, send)
			p.expectWaiting(t)
			sends = append(sends, p)
		}
		canceled := []int{1, 2, 17, 30}
		for _, i := range canceled { // 1 waits for room, the others for their turn
			sends[i-1].cancel()
			sends[i-1].expectEnd(t, context.Canceled)
		}
		drain(t, full, filled)
		expectNumbered(t, full, 0, 20_000)
		for i := 1; i <= 30; i++ {
			if !slices.Contains(canceled, i) {
				expectNumbered(t, full, i, 8+i*7919%4000)
				sends[i-1].expectEnd(t, nil)
			}
		}
	})
}

// TestSender_TTL_RunsWhileWaiting sends a message that expires while it waits for credit, and is
// not delivered then.
func TestSender_TTL_RunsWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{credit: 4 << 10})
		full := h.addReceiver(5, 4<<10)
		filled := h.fill(t, full, 5)
		h.start(t, Send{From: 1, To: []uint64{5}, Body: numbered(0, 20_000)}).expectEnd(t, nil)
		expiring := h.start(t, Send{
			From: 1, To: []uint64{5}, Body: numbered(1, 8), Expires: time.Now().Add(time.Second).UnixNano(),
			Options: wire.MakeOptions(wire.LevelWritten, wire.OverflowBlock),
		})
		time.Sleep(2 * time.Second)
		expiring.expectWaiting(t)
		drain(t, full, filled)
		expectNumbered(t, full, 0, 20_000)
		expiring.expectEnd(t, nil)
		if !slices.Equal(expiring.report.Fates, []wire.Fate{wire.FateExpired}) {
			t.Errorf("the fates are %v", expiring.report.Fates)
		}
	})
}

// TestSender_NoReceivers_EndsBatch sends a message without receivers between two that would form
// a batch, while the pump is busy. Each of them gets its report: the seqs of a batch have no gap.
func TestSender_NoReceivers_EndsBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{})
		g := newGate()
		h.add(5, g)
		h.sendTo(t, 1, nil, 5)
		synctest.Wait() // the pump offers it
		received := wire.MakeOptions(wire.LevelReceived, wire.OverflowBlock)
		first := h.start(t, Send{From: 1, To: []uint64{5}, Options: received})
		none := h.start(t, Send{From: 1, Options: received})
		second := h.start(t, Send{From: 1, To: []uint64{5}, Options: received})
		close(g.open)
		none.expectEnd(t, nil)
		first.expectEnd(t, nil)
		second.expectEnd(t, nil)
		for i, p := range []*pending{first, none, second} {
			if want := first.report.Seq + uint64(i); p.report.Seq != want {
				t.Errorf("message %d has seq %d, want %d", i, p.report.Seq, want)
			}
		}
	})
}
