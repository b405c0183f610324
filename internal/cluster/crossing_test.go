package cluster

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// fatesHead returns the head of FATES.
func fatesHead(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// TestCrossing_PartQueued queues a batch for its receivers in a strange order, each twice.
// Unblocked is the sender once.
func TestCrossing_PartQueued(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		s := st.sendIt(transfer{size: 1000, to: []uint64{4, 5, 6}})
		for _, at := range []byte{2, 2, 0, 0} {
			st.must(st.handlePartQueued(append(partQueuedHead(1, at), "later field"...)))
			st.wantDone(s, 0)
		}
		if st.window.lanes[5].underWay == 0 || st.window.lanes[4].underWay != 0 || st.window.underWay == 0 {
			t.Errorf("the lanes are %+v", st.window.lanes)
		}
		st.must(st.handlePartQueued(partQueuedHead(1, 1)))
		st.wantDone(s, 1)
		if st.window.underWay == 0 {
			t.Error("the memory of the batch is free before all is queued")
		}
		st.must(st.handleQueued(queuedHead(1, 1)))
		st.wantDone(s, 1)
		if st.isBusy() || len(st.open) != 0 {
			t.Errorf("%d crossings are open", len(st.open))
		}
	})
}

// TestCrossing_Accepted has a receiver block a batch that is in the budget of the other hub: the
// room of the receiver stays taken, and the sender blocked, but others have the whole window.
func TestCrossing_Accepted(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		s := st.sendIt(transfer{size: minWindow / 2, to: []uint64{4, 5}})
		st.wantCrossed(1)
		st.must(st.handlePartQueued(acceptedHead(1, 1)))
		st.must(st.handlePartQueued(acceptedHead(1)))
		st.wantDone(s, 0)
		if st.window.underWay != 0 || !st.isBusy() {
			t.Errorf("%d bytes are under way", st.window.underWay)
		}
		waits := st.sendIt(transfer{size: 100, to: []uint64{4, 6}})
		st.sendIt(transfer{size: minWindow - 1000, to: []uint64{5}})
		if _, to := st.crossed(); len(to) != 2 || to[0][0] != 6 || to[1][0] != 5 {
			t.Errorf("sent to %v", to)
		}
		st.must(st.handleQueued(queuedHead(1, 3)))
		st.wantDone(s, 1)
		st.wantCrossed(4)
		st.must(st.handleQueued(queuedHead(4, 4)))
		st.wantDone(waits, 1)
	})
}

// TestCrossing_Fates sends to some of the receivers at once, and to the others later. Fates are in
// the order in which each part has crossed.
func TestCrossing_Fates(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		st.sendIt(transfer{size: minWindow / 3, to: []uint64{5}})
		s := st.sendIt(transfer{size: minWindow / 4, reports: true, to: []uint64{4, 5, 6}})
		report := func(fates ...wire.Fate) (frame []byte) {
			var bytes []byte
			for _, fate := range fates {
				bytes = append(bytes, byte(fate))
			}
			return wire.AppendReport(nil, 1, bytes)
		}
		st.must(st.handleFates(fatesHead(2), report(wire.FateWritten, wire.FateGone)))
		s.want(t, fateAt(10, wire.FateWritten), fateAt(12, wire.FateGone))
		st.must(st.handleQueued(queuedHead(1, 2)))
		if len(st.open) != 1 || st.open[3] == nil {
			t.Fatalf("%d crossings are open, want the second part", len(st.open))
		}
		st.must(st.handleQueued(queuedHead(3, 3)))
		const later = 200 // a fate of a later version of the hub
		st.must(st.handleFates(fatesHead(3), report(later)))
		s.want(t, fateAt(11, later))
		if len(st.open) != 0 {
			t.Errorf("%d crossings are open", len(st.open))
		}
		st.must(st.handleFates(fatesHead(3), report(later))) // the tracker has given up, perhaps
		s.want(t)
	})
}

// TestCrossing_KeepsNoBody has a fate outstanding for long: the body is not kept meanwhile.
func TestCrossing_KeepsNoBody(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		s := st.sendIt(transfer{size: 100, reports: true, to: []uint64{1}})
		st.must(st.handleQueued(queuedHead(1, 1)))
		pass(time.Minute)
		if s.transfer.Batch.Buffer != nil || st.account.Held() != 0 || len(st.open) != 1 {
			t.Errorf("%d bytes are held for %d crossings", st.account.Held(), len(st.open))
		}
	})
}

// TestCrossing_DropUndecided never gets the fates of one batch, and those of another one late. What
// is not queued still blocks its sender.
func TestCrossing_DropUndecided(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		never := st.sendIt(transfer{size: 1, reports: true, to: []uint64{1}})
		blocked := st.sendIt(transfer{size: 1, reports: true, to: []uint64{1}})
		st.must(st.handleQueued(queuedHead(1, 1)))
		st.dropUndecided(never.transfer.ReportBy.Add(reportGrace))
		if len(st.open) != 2 {
			t.Error("a batch is forgotten before its time")
		}
		st.dropUndecided(never.transfer.ReportBy.Add(reportGrace + 1))
		if len(st.open) != 1 {
			t.Errorf("%d batches are open, want the one that is blocked", len(st.open))
		}
		st.must(st.handleFates(fatesHead(1), wire.AppendReport(nil, 1, []byte{2})))
		st.must(st.handleQueued(queuedHead(2, 2)))
		st.wantDone(blocked, 1)
		if len(st.open) != 0 {
			t.Errorf("%d batches are open", len(st.open))
		}
	})
}

// TestCrossing_QueuedOfLastGeneration is told of batches of a generation that has broken, and of
// one that has come later.
func TestCrossing_QueuedOfLastGeneration(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		for range 5 {
			st.sendIt(transfer{size: 1, to: []uint64{1}})
		}
		st.stream.breaks()
		st.onBreak(1, 0)
		st.must(st.handleQueued(queuedHead(1, 4)))
		first, second := st.sendIt(transfer{size: 1, to: []uint64{1}}), st.sendIt(transfer{size: 1, to: []uint64{1}})
		st.must(st.handleQueued(queuedHead(1, 6)))
		st.wantDone(first, 1)
		st.wantDone(second, 0)
		st.must(st.handleQueued(queuedHead(7, 7)))
		st.wantDone(second, 1)
	})
}

func TestCrossing_Nonsense(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		s := st.sendIt(transfer{size: 1, reports: true, to: []uint64{1, 2}})
		report := func(seq uint64, fates ...byte) []byte { return wire.AppendReport(nil, seq, fates) }
		for name, err := range map[string]error{
			"QUEUED short":             st.handleQueued(make([]byte, queuedHeadSize-1)),
			"QUEUED of none":           st.handleQueued(queuedHead(0, 1)),
			"QUEUED of the future":     st.handleQueued(queuedHead(1, 2)),
			"QUEUED backwards":         st.handleQueued(queuedHead(2, 1)),
			"QUEUED of everything":     st.handleQueued(queuedHead(1, 1<<64-1)),
			"part short":               st.handlePartQueued(make([]byte, partHeadSize-1)),
			"part without positions":   st.handlePartQueued(partQueuedHead(1, 1)[:partHeadSize]),
			"part of a third receiver": st.handlePartQueued(partQueuedHead(1, 2)),
			"FATES short":              st.handleFates(nil, nil),
			"FATES for one receiver":   st.handleFates(fatesHead(1), report(1, 2)),
			"FATES of another message": st.handleFates(fatesHead(1), report(2, 2, 2)),
			"FATES of message 0":       st.handleFates(fatesHead(1), report(0, 2, 2)),
			"FATES without a report":   st.handleFates(fatesHead(1), wire.AppendSkip(nil)),
			"FATES with a short one":   st.handleFates(fatesHead(1), []byte{0, 0, 0, 1, byte(wire.TypeReport)}),
		} {
			if !errors.Is(err, errNonsense) {
				t.Errorf("%s: %v, want an error", name, err)
			}
		}
		st.must(st.handlePartQueued(partQueuedHead(9, 0))) // of an earlier generation, perhaps
		s.want(t)
		st.wantDone(s, 0)
		st.must(st.handleQueued(queuedHead(1, 1)))
		st.wantDone(s, 1)
	})
}

// TestCrossing_FewAllocations handles a REPORT for a batch to many receivers.
func TestCrossing_FewAllocations(t *testing.T) {
	inSenderTest(t, func(st *senderTest) {
		var to []uint64
		for id := range uint64(255) {
			to = append(to, id+1)
		}
		s := st.sendIt(transfer{size: 1, reports: true, to: to})
		s.transfer.Events = discardEvents{}
		record := wire.AppendReport(nil, 1, make([]byte, 255))
		head := fatesHead(1)
		n := testing.AllocsPerRun(100, func() {
			st.open[1].undecided = 1000
			st.must(st.handleFates(head, record))
		})
		if n > 4 {
			t.Errorf("FATES allocate %v objects", n)
		}
	})
}

type discardEvents struct{}

func (discardEvents) HandleEvent(int, outbox.Event, int, int) {}
func (discardEvents) Decide(int, int, int, wire.Fate)         {}
