package cluster

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// senderTest is a sender on a fake stream.
type senderTest struct {
	*testing.T
	sender
	stream  *fakeStream
	account *body.Account
	drops   map[wire.Fate]int
}

// testSent is a transfer that was sent.
type testSent struct {
	*testEvents
	transfer *relay.Transfer
	options  *outbox.Options
	done     int // how often it was unblocked
}

// inSenderTest runs a test in virtual time. At its end, all memory must be released.
func inSenderTest(t *testing.T, test func(st *senderTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st := &senderTest{T: t, stream: newFakeStream(), account: body.NewBudget(1<<40, 0).NewAccount(1 << 40), drops: make(map[wire.Fate]int)}
		st.init(st.stream, minWindow, func(fate wire.Fate, n int) { st.drops[fate] += n })
		test(st)
		st.onBreak(1<<62, 0)
		if held := st.account.Held(); held != 0 {
			t.Errorf("%d bytes are not released", held)
		}
		if len(st.sender.waiting) > 0 || len(st.open) > 0 || len(st.window.lanes) > 0 || st.window.underWay != 0 {
			t.Errorf("%d batches wait, %d are open, %d lanes and %d bytes are left", len(st.sender.waiting), len(st.open), len(st.window.lanes), st.window.underWay)
		}
	})
}

// transfer describes what is sent.
type transfer struct {
	size    int
	policy  outbox.Overflow
	ttl     time.Duration // 0: it does not expire
	reports bool
	to      []uint64
}

// sendIt sends one message.
func (st *senderTest) sendIt(tr transfer) *testSent {
	st.Helper()
	s := &testSent{testEvents: new(testEvents), options: &outbox.Options{Overflow: tr.policy, Sender: 7}}
	var fl outbox.Flusher
	buffer := st.account.ForceAcquire(max(tr.size, 1))
	s.transfer = &relay.Transfer{
		Origin: 7, FirstSeq: 1, Options: relay.Options{IsSend: true},
		Batch:  outbox.Batch{Buffer: buffer, To: tr.size, Frames: 1, Options: s.options},
		Queued: fl.AddBlocked(), Events: s.testEvents,
	}
	fl.OnUnblocked(func() { s.done++ })
	if tr.ttl != 0 {
		s.transfer.Options.Expires = time.Now().Add(tr.ttl).UnixNano()
	}
	if tr.reports {
		s.transfer.ReportBy = time.Now().Add(time.Minute)
	}
	for i, id := range tr.to {
		s.transfer.Receivers = append(s.transfer.Receivers, relay.TransferTo{ID: id, Index: 10 + i})
	}
	st.send(s.transfer)
	buffer.Release()
	return s
}

// crossed returns the numbers and receivers of the batches that were sent since the last call.
func (st *senderTest) crossed() (numbers []uint64, to [][]uint64) {
	st.Helper()
	for _, r := range st.stream.take(st) {
		h, ids, err := parseBatchHead(r.head)
		if err != nil || r.recordType != recordBatch {
			st.Fatalf("record of type %d (%v)", r.recordType, err)
		}
		numbers, to = append(numbers, h.number), append(to, ids.AppendTo(nil))
	}
	return numbers, to
}

// wantCrossed checks the numbers of the batches that were sent since the last call.
func (st *senderTest) wantCrossed(want ...uint64) {
	st.Helper()
	if got, _ := st.crossed(); !slices.Equal(got, want) {
		st.Errorf("transfers %v were sent, want %v", got, want)
	}
}

func (st *senderTest) wantDone(s *testSent, done int) {
	st.Helper()
	if s.done != done {
		st.Errorf("unblocked %d times, want %d", s.done, done)
	}
}

// queued returns the head of QUEUED.
func queuedHead(first, last uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, first), last)
}

// partQueuedHead returns the head of QUEUED in part.
func partQueuedHead(number uint64, at ...byte) []byte {
	return append(append(binary.BigEndian.AppendUint64(nil, number), 0, byte(len(at))), at...)
}

// acceptedHead is partQueuedHead for a batch that is in the budget of the other hub.
func acceptedHead(number uint64, at ...byte) []byte {
	head := partQueuedHead(number, at...)
	head[8] = partAccepted
	return head
}

func (st *senderTest) must(err error) {
	st.Helper()
	if err != nil {
		st.Fatal(err)
	}
}

func TestSender_QueuedUnblocks(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		var sent []*testSent
		for range 4 {
			sent = append(sent, st.sendIt(transfer{size: 100, to: []uint64{1, 2}}))
		}
		st.wantCrossed(1, 2, 3, 4)
		st.must(st.handleQueued(queuedHead(2, 3)))
		for i, s := range sent {
			st.wantDone(s, []int{0, 1, 1, 0}[i])
			s.want(t)
		}
		st.must(st.handleQueued(append(queuedHead(1, 1), "later field"...)))
		st.must(st.handleQueued(queuedHead(4, 4)))
		if st.isBusy() || len(st.open) != 0 || st.account.Held() != 0 {
			t.Errorf("%d are open, %d bytes are held", len(st.open), st.account.Held())
		}
	})
}

// TestSender_WindowFull fills the window. What waits is sent, and flushed, when there is room.
func TestSender_WindowFull(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		st.sendIt(transfer{size: minWindow / 2, to: []uint64{1}})
		toSlow := st.sendIt(transfer{size: minWindow / 3, to: []uint64{1, 2}}) // has room for 2 only
		if numbers, to := st.crossed(); len(numbers) != 2 || !slices.Equal(to[1], []uint64{2}) {
			t.Fatalf("%v are sent to %v", numbers, to)
		}
		large := st.sendIt(transfer{size: minWindow / 2, to: []uint64{3}})
		behind := st.sendIt(transfer{size: 1, to: []uint64{4}})
		st.wantCrossed()
		st.must(st.handleQueued(queuedHead(1, 1)))
		if numbers, to := st.crossed(); !slices.Equal(numbers, []uint64{3}) || !slices.Equal(to[0], []uint64{1}) {
			t.Errorf("%v are sent to %v, want the rest of the one that waits in the lane", numbers, to)
		}
		st.wantDone(toSlow, 0)
		st.must(st.handleQueued(queuedHead(2, 3)))
		st.wantDone(toSlow, 1)
		st.wantCrossed(4, 5)
		st.must(st.handleQueued(queuedHead(4, 5)))
		st.wantDone(large, 1)
		st.wantDone(behind, 1)
		if st.counts.Waited != 3 {
			t.Errorf("%d batches waited, want 3", st.counts.Waited)
		}
	})
}

func TestSender_OverflowPolicies(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		const size = minWindow / 3
		st.sendIt(transfer{size: size, to: []uint64{1}})
		rejected := st.sendIt(transfer{size: size, policy: outbox.OverflowReject, to: []uint64{1}})
		rejected.want(t, fateAt(10, wire.FateFull))
		st.wantDone(rejected, 1)
		if len(st.drops) != 0 {
			t.Errorf("%v are counted as drops, which the policy has rejected", st.drops)
		}
		st.wantCrossed(1)
		if st.counts.Waited != 0 {
			t.Errorf("%d batches waited", st.counts.Waited)
		}
	})
}

// TestSender_DropOldest sends more than the receiver takes: the newest message of each sender
// waits.
func TestSender_DropOldest(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		const size = minWindow / 3
		var sent []*testSent
		for range 4 {
			sent = append(sent, st.sendIt(transfer{size: size, policy: outbox.OverflowDropOldest, to: []uint64{2}}))
		}
		st.wantCrossed(1)
		for i, s := range sent[:4] {
			if i == 1 || i == 2 {
				s.want(t, eventAt(10, outbox.EventDropped))
				st.wantDone(s, 1)
			} else {
				s.want(t)
				st.wantDone(s, 0)
			}
		}
		st.must(st.handleQueued(queuedHead(1, 1)))
		st.wantCrossed(2)
		st.must(st.handleQueued(queuedHead(2, 2)))
		st.wantDone(sent[3], 1)
	})
}

func TestSender_Expiry(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		expired := st.sendIt(transfer{size: 1, ttl: -1, to: []uint64{1}})
		expired.want(t, eventAt(10, outbox.EventExpired))
		st.wantDone(expired, 1)
		st.sendIt(transfer{size: minWindow, to: []uint64{1, 2}})
		st.wantCrossed(1)
		inQueue := st.sendIt(transfer{size: 1, ttl: time.Second, to: []uint64{3, 4}})
		pass(time.Second)
		st.must(st.handleQueued(queuedHead(1, 1)))
		st.wantCrossed()
		inQueue.want(t, eventAt(10, outbox.EventExpired), eventAt(11, outbox.EventExpired))
		st.wantDone(inQueue, 1)
		inTime := st.sendIt(transfer{size: 1, ttl: time.Second, reports: true, to: []uint64{1}})
		h, _, _ := parseBatchHead(st.stream.take(t)[0].head)
		if now := st.stream.Now(); h.expires-now != 1e6 || h.reportBy-now != 60e6 {
			t.Errorf("expires after %d µs, reports after %d µs", h.expires-now, h.reportBy-now)
		}
		inTime.want(t)
	})
}

func TestSender_Retract(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		const size = minWindow / 3
		st.sendIt(transfer{size: size, to: []uint64{1}})
		inLane := st.sendIt(transfer{size: size, to: []uint64{1, 2}})
		inQueue := st.sendIt(transfer{size: 2 * size, to: []uint64{3}})
		last := st.sendIt(transfer{size: 1, to: []uint64{9}})
		st.wantCrossed(1, 2)
		st.retract(inLane.options)
		inLane.want(t, eventAt(10, outbox.EventExpired))
		st.wantDone(inLane, 0)
		st.retract(inQueue.options)
		inQueue.want(t, eventAt(10, outbox.EventExpired))
		st.wantDone(inQueue, 1)
		st.wantCrossed(3)
		st.retract(last.options) // it has crossed
		st.retract(new(outbox.Options))
		last.want(t)
	})
}

// TestSender_OnBreak fails what was handed over perhaps, what was certainly not, and what waits.
func TestSender_OnBreak(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		const size = minWindow / 4
		whole := st.sendIt(transfer{size: size, reports: true, to: []uint64{1, 2}})
		handedOver := st.stream.end
		cut := st.sendIt(transfer{size: size, to: []uint64{3}})
		queued := st.sendIt(transfer{size: 1, reports: true, to: []uint64{4}})
		waits := st.sendIt(transfer{size: 3 * size, to: []uint64{5, 6}})
		st.must(st.handleQueued(queuedHead(3, 3)))
		st.must(st.handlePartQueued(partQueuedHead(1, 1)))
		st.stream.breaks()
		next := st.sendIt(transfer{size: 1, to: []uint64{7}}) // waits behind the other
		st.onBreak(1, handedOver+100)
		whole.want(t, eventAt(10, outbox.EventUnacked), eventAt(11, outbox.EventUnacked))
		cut.want(t, eventAt(10, outbox.EventUnreachable))
		queued.want(t, eventAt(10, outbox.EventUnreachable)) // in truth impossible: it was said to be queued
		waits.want(t, eventAt(10, outbox.EventUnreachable), eventAt(11, outbox.EventUnreachable))
		next.want(t, eventAt(10, outbox.EventUnreachable))
		for _, s := range []*testSent{whole, cut, queued, waits, next} {
			st.wantDone(s, 1)
		}
		if want := map[wire.Fate]int{wire.FateUnreachable: 4}; !maps.Equal(st.drops, want) {
			t.Errorf("dropped %v, want %v", st.drops, want)
		}
		st.stream.take(t)
		later := st.sendIt(transfer{size: 1, to: []uint64{1}})
		st.onBreak(1, 0) // of an earlier generation
		later.want(t)
		st.must(st.handleQueued(queuedHead(4, 4)))
		st.wantDone(later, 1)
	})
}

func TestSender_Reach(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		st.setReach(reachLost)
		s := st.sendIt(transfer{size: 1, to: []uint64{1, 2}})
		s.want(t, eventAt(10, outbox.EventUnreachable), eventAt(11, outbox.EventUnreachable))
		st.wantDone(s, 1)
		st.setReach(reachable)
		st.sendIt(transfer{size: 1, to: []uint64{1}})
		st.wantCrossed(1)
		st.setReach(reachEnded)
		st.setReach(reachable) // as a frame that came at the same time would
		s = st.sendIt(transfer{size: 1, to: []uint64{1}})
		s.want(t, eventAt(10, outbox.EventUnreachable))
		st.wantCrossed()
	})
}

// TestSender_TooLarge sends a message that the window of the other hub can never have.
func TestSender_TooLarge(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		s := st.sendIt(transfer{size: minWindow + 1, to: []uint64{1}})
		s.want(t, fateAt(10, wire.FateTooLarge))
		st.wantDone(s, 1)
		if st.drops[wire.FateTooLarge] != 1 {
			t.Errorf("dropped %v", st.drops)
		}
		largest := st.sendIt(transfer{size: minWindow, to: []uint64{1}})
		largest.want(t)
		st.wantCrossed(1)
	})
}
