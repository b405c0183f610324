package relay

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// newRecordedWaiter returns a verdictWaiter that appends the fates that it gets to fates.
func newRecordedWaiter(sender, seq uint64, fates *[]wire.Fate) *verdictWaiter {
	return &verdictWaiter{verdictKey{sender, seq}, func(_ *Verdicts, fate wire.Fate) { *fates = append(*fates, fate) }}
}

// TestVerdicts_Apply_ByKey checks that a verdict reaches the message of its sender and seq alone,
// and none that was canceled.
func TestVerdicts_Apply_ByKey(t *testing.T) {
	var v Verdicts
	var first, second []wire.Fate
	firstWaiter := newRecordedWaiter(1, 2, &first)
	if v.Apply(wire.Verdict{Sender: 1, Seq: 1}) {
		t.Error("the zero value is not empty")
	}
	v.Fail()
	v.cancel(firstWaiter)
	v.await(firstWaiter)
	v.await(newRecordedWaiter(2, 1, &second))
	if !v.Apply(wire.Verdict{Sender: 1, Seq: 2, Fate: wire.FateProcessed}) || v.Apply(wire.Verdict{Sender: 1, Seq: 1, Fate: wire.FateProcessed}) {
		t.Error("a message is not found by its own key alone")
	}
	v.cancel(firstWaiter)
	if v.Apply(wire.Verdict{Sender: 1, Seq: 2, Fate: wire.FateProcessed}) {
		t.Error("a canceled message is found")
	}
	v.Fail()
	if !slices.Equal(first, []wire.Fate{wire.FateProcessed}) || !slices.Equal(second, []wire.Fate{wire.FateUncertain}) {
		t.Errorf("the fates are %v and %v, want one processed and one uncertain", first, second)
	}
}

// TestVerdicts_Cancel_KeepsLaterMessage sends a message of the same sender and seq twice, as from
// two sessions of a client with a granted id. The end of the first wait does not end the second.
func TestVerdicts_Cancel_KeepsLaterMessage(t *testing.T) {
	var v Verdicts
	var first, second []wire.Fate
	firstWaiter, secondWaiter := newRecordedWaiter(1, 1, &first), newRecordedWaiter(1, 1, &second)
	v.await(firstWaiter)
	v.await(secondWaiter)
	v.cancel(firstWaiter)
	if !v.Apply(wire.Verdict{Sender: 1, Seq: 1, Fate: wire.FateRejected}) || len(first) != 0 || !slices.Equal(second, []wire.Fate{wire.FateRejected}) {
		t.Errorf("the fates are %v and %v, want the verdict for the second message alone", first, second)
	}
	v.cancel(secondWaiter)
	if len(v.waiters) != 0 {
		t.Errorf("%d messages wait for verdicts, want none", len(v.waiters))
	}
}

// TestVerdicts_ReleaseSpare releases spare memory while a message waits, and when none does.
func TestVerdicts_ReleaseSpare(t *testing.T) {
	var v Verdicts
	var fates []wire.Fate
	waiter := newRecordedWaiter(1, 1, &fates)
	v.await(waiter)
	v.ReleaseSpare()
	if !v.Apply(wire.Verdict{Sender: 1, Seq: 1, Fate: wire.FateProcessed}) || len(fates) != 1 {
		t.Errorf("the fates are %v, want one", fates)
	}
	v.cancel(waiter)
	v.ReleaseSpare()
	if v.waiters != nil {
		t.Error("an empty map is kept")
	}
}

// earlyVerdict is an origin, and a destination whose application gives a verdict on a message that
// is still being tracked.
type earlyVerdict struct {
	verdicts *Verdicts
	before   func()
}

func (earlyVerdict) ID() uint64                                          { return 1 }
func (earlyVerdict) CanSend() func(uint64) bool                          { return nil }
func (earlyVerdict) SendReports([]byte, int)                             {}
func (earlyVerdict) Version() int                                        { return wire.Version2 }
func (earlyVerdict) Offer(*outbox.Batch, *outbox.Flusher) outbox.Outcome { return outbox.Closed }
func (earlyVerdict) Retract(*outbox.Options) bool                        { return false }
func (d earlyVerdict) Verdicts() *Verdicts                               { d.before(); return d.verdicts }

// TestVerdicts_Await_AfterAllAreKnown checks that no verdict reaches a Tracker before it knows the
// Verdicts of all receivers, which it then reads without a lock.
func TestVerdicts_Await_AfterAllAreKnown(t *testing.T) {
	var timers sync.WaitGroup
	r := New(Config{ReportTimeout: time.Hour, MaxReportTimeout: time.Hour, Timers: &timers})
	var first, second Verdicts
	dests := []Destination{
		&earlyVerdict{&first, func() {}},
		&earlyVerdict{&second, func() {
			if first.Apply(wire.Verdict{Sender: 1, Seq: 5, Fate: wire.FateProcessed}) {
				t.Error("a verdict reaches a Tracker that does not know all receivers")
			}
		}},
	}
	m := Messages{Origin: dests[0].(Origin), FirstSeq: 5, Options: Options{IsSend: true, Wire: wire.MakeOptions(wire.LevelProcessed, wire.OverflowBlock)}}
	tracker := r.newTracker(&m, 1, dests)
	for _, v := range []*Verdicts{&first, &second} {
		if !v.Apply(wire.Verdict{Sender: 1, Seq: 5, Fate: wire.FateProcessed}) {
			t.Error("a verdict does not reach the Tracker")
		}
	}
	for i := range dests {
		tracker.decide(i, 0, 1, wire.FateGone)
	}
	timers.Wait()
}
