package relay

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

var allLevels = []wire.Level{wire.LevelNone, wire.LevelWritten, wire.LevelReceived, wire.LevelProcessed}

// noFate stands for a fate that is undecided.
const noFate wire.Fate = 0xff

// wantFate checks what a tracker has made of one message to one receiver: its report and the
// statistics. Without a report, losses alone are counted.
func (tr *testRelay) wantFate(t *testing.T, level wire.Level, want wire.Fate) {
	t.Helper()
	wantCounts := map[wire.Fate]uint64{}
	switch {
	case want == noFate:
		tr.origin.wantReport(1)
	case level == wire.LevelNone:
		tr.origin.wantReport(1)
		wantCounts[want] = 1
	default:
		tr.origin.wantReport(1, want)
		wantCounts[want] = 1
	}
	if got := tr.Fates(); !maps.Equal(got, wantCounts) {
		t.Errorf("the fates are counted as %v, want %v", got, wantCounts)
	}
}

// TestTracker_Outcome_DecidesFate applies every outcome of Offer at every level.
func TestTracker_Outcome_DecidesFate(t *testing.T) {
	for outcome, tt := range map[outbox.Outcome]struct{ want, atTimeout wire.Fate }{
		outbox.Queued:         {noFate, wire.FateQueued},
		outbox.Blocked:        {noFate, wire.FatePending},
		outbox.Closed:         {wire.FateGone, wire.FateGone},
		outbox.Full:           {wire.FateFull, wire.FateFull},
		outbox.TooLarge:       {noFate, wire.FatePending}, // the parts are offered
		outbox.AlreadyExpired: {wire.FateExpired, wire.FateExpired},
	} {
		for _, level := range allLevels {
			t.Run(fmt.Sprintf("outcome %d, level %d", outcome, level), func(t *testing.T) {
				inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
					tracker := tr.track(sendOptions(level, wire.OverflowReject), 1, &stubDest{version: 2})
					tracker.onEnqueue(&outbox.Batch{Frames: 1}, outcome)
					tr.wantFate(t, level, tt.want)
					sleep(testReportTimeout)
					if level == wire.LevelNone {
						tr.wantFate(t, level, tt.want)
					} else {
						tr.wantFate(t, level, tt.atTimeout)
					}
				})
			})
		}
	}
}

// TestTracker_Event_DecidesFate applies every event at every level, for both versions.
func TestTracker_Event_DecidesFate(t *testing.T) {
	written, received := wire.FateWritten, wire.FateReceived
	type fates [4]wire.Fate // by level
	all := func(f wire.Fate) fates { return fates{f, f, f, f} }
	for event, tt := range map[outbox.Event]struct {
		v1, v2    fates
		atTimeout wire.Fate
	}{
		outbox.EventQueued:      {all(noFate), all(noFate), wire.FateQueued},
		outbox.EventWritten:     {fates{noFate, written, written, written}, fates{noFate, written, noFate, noFate}, written},
		outbox.EventAcked:       {fates{noFate, noFate, received, noFate}, fates{noFate, noFate, received, noFate}, received},
		outbox.EventExpired:     {all(wire.FateExpired), all(wire.FateExpired), noFate},
		outbox.EventDropped:     {all(wire.FateFull), all(wire.FateFull), noFate},
		outbox.EventLost:        {all(wire.FateGone), all(wire.FateGone), noFate},
		outbox.EventUnacked:     {all(wire.FateUncertain), all(wire.FateUncertain), noFate},
		outbox.EventUnreachable: {all(wire.FateUnreachable), all(wire.FateUnreachable), noFate},
		outbox.EventTooLarge:    {all(wire.FateTooLarge), all(wire.FateTooLarge), noFate},
	} {
		for version, want := range map[int]fates{1: tt.v1, 2: tt.v2} {
			for _, level := range allLevels {
				t.Run(fmt.Sprintf("event %d, version %d, level %d", event, version, level), func(t *testing.T) {
					inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
						tracker := tr.track(sendOptions(level, wire.OverflowReject), 1, &stubDest{version: version})
						tracker.onEnqueue(&outbox.Batch{Frames: 1}, outbox.Queued)
						tr.wantFate(t, level, noFate)
						tracker.HandleEvent(0, event, 0, 1)
						fate := want[level]
						tr.wantFate(t, level, fate)
						sleep(testReportTimeout)
						if fate == noFate && level != wire.LevelNone {
							fate = tt.atTimeout
						}
						tr.wantFate(t, level, fate)
					})
				})
			}
		}
	}
}

// TestTracker_Report_AfterLastFate decides the fates of three messages to three receivers one by
// one: each message is reported with its last fate, and later events change nothing.
func TestTracker_Report_AfterLastFate(t *testing.T) {
	tr := newTestRelay(t, nil)
	v1, v2 := &stubDest{version: 1}, &stubDest{version: 2}
	tracker := tr.track(levelOptions(wire.LevelReceived), 3, v1, nil, v2)
	tracker.decide(1, 0, 3, wire.FateUnknown)
	tracker.HandleEvent(0, outbox.EventWritten, 1, 2)
	tracker.HandleEvent(2, outbox.EventWritten, 0, 3)
	tracker.HandleEvent(2, outbox.EventAcked, 0, 2)
	tr.origin.wantReport(1)
	tr.origin.wantReport(2, wire.FateWritten, wire.FateUnknown, wire.FateReceived)
	tr.origin.wantReport(3)
	tracker.HandleEvent(0, outbox.EventLost, 0, 3)
	tr.origin.wantReport(1, wire.FateGone, wire.FateUnknown, wire.FateReceived)
	tr.origin.wantReport(3)
	tracker.HandleEvent(2, outbox.EventUnacked, 2, 1)
	tr.origin.wantReport(3, wire.FateWritten, wire.FateUnknown, wire.FateUncertain)
	tracker.HandleEvent(2, outbox.EventAcked, 0, 3)
	want := map[wire.Fate]uint64{wire.FateWritten: 2, wire.FateUnknown: 3, wire.FateReceived: 2, wire.FateGone: 1, wire.FateUncertain: 1}
	if got := tr.Fates(); !maps.Equal(got, want) {
		t.Errorf("the fates are counted as %v, want %v", got, want)
	}
}

// TestTracker_Timeout_ReportsAsItStands lets the report timeout end at each progress of a message,
// in the time that the SEND or the relay names. Messages that were reported before are not
// reported again, and later events change nothing.
func TestTracker_Timeout_ReportsAsItStands(t *testing.T) {
	for name, tt := range map[string]struct {
		named, want time.Duration
	}{
		"none is named":                {0, testReportTimeout},
		"less is named":                {1500 * time.Millisecond, 1500 * time.Millisecond},
		"more is named":                {testReportTimeout * 2, testReportTimeout * 2},
		"more is named than the bound": {testMaxReportTimeout * 2, testMaxReportTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
				opts := levelOptions(wire.LevelReceived)
				opts.Wire = opts.Wire.WithReportTimeout(tt.named)
				dest := &stubDest{version: 2}
				tracker := tr.track(opts, 4, dest)
				tracker.onEnqueue(&outbox.Batch{Frames: 3}, outbox.Queued)
				tracker.HandleEvent(0, outbox.EventWritten, 0, 2)
				tracker.HandleEvent(0, outbox.EventAcked, 0, 1)
				sleep(tt.want - 1)
				tr.origin.wantReport(1, wire.FateReceived)
				tr.origin.wantReport(2)
				sleep(1)
				tr.origin.wantReport(2, wire.FateWritten)
				tr.origin.wantReport(3, wire.FateQueued)
				tr.origin.wantReport(4, wire.FatePending)
				if dest.retracts != 0 {
					t.Error("messages without a time to live are retracted")
				}
				tracker.HandleEvent(0, outbox.EventAcked, 0, 4)
				sleep(time.Minute)
			})
		})
	}
}

// TestTracker_AllReported_StopsTimer checks that a tracker whose messages are reported holds no
// timer: the cleanup of the relay waits for it without virtual time.
func TestTracker_AllReported_StopsTimer(t *testing.T) {
	tr := newTestRelay(t, nil)
	for _, level := range allLevels[1:] {
		tr.origin.reports = make(map[uint64][]wire.Fate)
		tracker := tr.track(levelOptions(level), 2, &stubDest{version: 1})
		tracker.HandleEvent(0, outbox.EventWritten, 1, 1)
		tracker.HandleEvent(0, outbox.EventWritten, 0, 1)
		tr.origin.wantReport(1, wire.FateWritten)
		tr.origin.wantReport(2, wire.FateWritten)
		if tracker.timer.Stop() {
			t.Errorf("level %d: the timer runs", level)
			tr.timers.Done()
		}
	}
}

// TestTracker_Expiry_RetractsQueued sends to receivers that accept no data. When the time to live
// ends, the messages are removed from the queue and from the blocked sends, and reported.
func TestTracker_Expiry_RetractsQueued(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		idle, blocked := newOutboxDest(t, 2, 1000), newOutboxDest(t, 1, 1)
		blocked.conn.block()
		tr.dests = map[uint64]Destination{1: idle, 2: blocked}
		tr.send(Options{}, []uint64{2}, wire.AppendRelayDelivery(nil, []byte("first")))
		opts := levelOptions(wire.LevelReceived)
		opts.Expires = time.Now().Add(time.Second).UnixNano()
		if !tr.send(opts, []uint64{1, 2, 3}, numbered(2)...) {
			t.Error("a send to a full outbox is not blocked")
		}
		sleep(time.Second - 1)
		if got := tr.origin.report(1); got != nil {
			t.Errorf("reported as %v before it has expired", got)
		}
		sleep(1)
		for seq := uint64(1); seq <= 2; seq++ {
			tr.origin.wantReport(seq, wire.FateWritten, wire.FateExpired, wire.FateUnknown)
		}
		blocked.conn.resume()
		sleep(time.Second)
		idle.conn.wantWritten(t, numbered(2)...)
		blocked.conn.wantWritten(t, wire.AppendRelayDelivery(nil, []byte("first")))
	})
}

// TestTracker_Expiry_ByProgress ends the time to live at each progress of a message. A message that
// is still queued can be written, and is reported as queued. For one that has just left the queue,
// the event that follows decides. A receiver that was not offered the message will not get it.
func TestTracker_Expiry_ByProgress(t *testing.T) {
	for name, tt := range map[string]struct {
		stillQueued bool
		offered     int32
		before      []outbox.Event
		want        wire.Fate // at once
		after       []outbox.Event
		wantAfter   wire.Fate
	}{
		"not offered":               {want: wire.FateExpired},
		"offered, then expired":     {offered: 1, want: noFate, after: []outbox.Event{outbox.EventExpired}, wantAfter: wire.FateExpired},
		"offered, queued, written":  {offered: 1, want: noFate, after: []outbox.Event{outbox.EventQueued, outbox.EventWritten}, wantAfter: wire.FateWritten},
		"queued":                    {stillQueued: true, offered: 1, before: []outbox.Event{outbox.EventQueued}, want: wire.FateQueued},
		"left the queue, expired":   {offered: 1, before: []outbox.Event{outbox.EventQueued}, want: noFate, after: []outbox.Event{outbox.EventExpired}, wantAfter: wire.FateExpired},
		"left the queue, written":   {offered: 1, before: []outbox.Event{outbox.EventQueued}, want: noFate, after: []outbox.Event{outbox.EventWritten}, wantAfter: wire.FateWritten},
		"left the queue, acked":     {offered: 1, before: []outbox.Event{outbox.EventQueued}, want: noFate, after: []outbox.Event{outbox.EventAcked}, wantAfter: wire.FateReceived},
		"left the queue, and lost":  {offered: 1, before: []outbox.Event{outbox.EventQueued}, want: noFate, after: []outbox.Event{outbox.EventLost}, wantAfter: wire.FateGone},
		"written, and not received": {offered: 1, before: []outbox.Event{outbox.EventQueued, outbox.EventWritten}, want: wire.FateWritten},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
				opts := levelOptions(wire.LevelProcessed)
				opts.Expires = time.Now().Add(time.Second).UnixNano()
				dest, done := &stubDest{version: 2, stillQueued: tt.stillQueued}, &stubDest{version: 1}
				tracker := tr.track(opts, 1, dest, done)
				tracker.offeredTo.Store(tt.offered)
				tracker.HandleEvent(1, outbox.EventWritten, 0, 1)
				for _, event := range tt.before {
					tracker.HandleEvent(0, event, 0, 1)
				}
				sleep(time.Second)
				if dest.retracts != 1 || done.retracts != 0 {
					t.Errorf("retracted %d and %d times, want only the undecided once", dest.retracts, done.retracts)
				}
				want := tt.want
				if want == noFate {
					tr.origin.wantReport(1)
					want = tt.wantAfter
				}
				for _, event := range tt.after {
					tracker.HandleEvent(0, event, 0, 1)
				}
				tr.origin.wantReport(1, want, wire.FateWritten)
				sleep(testMaxReportTimeout)
			})
		})
	}
}

// TestTracker_Verdict_ByProgress applies a verdict, or the end of the receiver, at each progress
// of a message. The first verdict counts as soon as the message is written; a message that is not
// written has another fate.
func TestTracker_Verdict_ByProgress(t *testing.T) {
	type step = func(*stubDest, *Tracker)
	verdict := func(fate wire.Fate) step {
		return func(d *stubDest, _ *Tracker) { d.verdicts.Apply(wire.Verdict{Sender: originID, Seq: 1, Fate: fate}) }
	}
	fail := func(d *stubDest, _ *Tracker) { d.verdicts.Fail() }
	event := func(e outbox.Event) step {
		return func(_ *stubDest, tracker *Tracker) { tracker.HandleEvent(0, e, 0, 1) }
	}
	offer := func(outcome outbox.Outcome) step {
		return func(_ *stubDest, tracker *Tracker) { tracker.onEnqueue(&outbox.Batch{Frames: 1}, outcome) }
	}
	queued, written, acked, lost := offer(outbox.Queued), event(outbox.EventWritten), event(outbox.EventAcked), event(outbox.EventLost)
	processed, rejected := verdict(wire.FateProcessed), verdict(wire.FateRejected)
	for name, tt := range map[string]struct {
		steps []step // none but the last decides the fate
		want  wire.Fate
	}{
		"written":                          {[]step{queued, written, processed}, wire.FateProcessed},
		"acked":                            {[]step{queued, written, acked, rejected}, wire.FateRejected},
		"acked before written":             {[]step{queued, acked, processed}, wire.FateProcessed},
		"verdict before written":           {[]step{queued, processed, written}, wire.FateProcessed},
		"two before written":               {[]step{queued, rejected, processed, written}, wire.FateRejected},
		"verdict before queued":            {[]step{processed, queued, written}, wire.FateProcessed},
		"verdict, then lost":               {[]step{queued, processed, lost}, wire.FateGone},
		"receiver ends after written":      {[]step{queued, written, fail}, wire.FateUncertain},
		"receiver ends after acked":        {[]step{queued, written, acked, fail}, wire.FateUncertain},
		"receiver ends before written":     {[]step{queued, fail, written}, wire.FateUncertain},
		"receiver ends, then lost":         {[]step{queued, fail, lost}, wire.FateGone},
		"receiver ends before the offer":   {[]step{fail, offer(outbox.Closed)}, wire.FateGone},
		"verdict, and the receiver ends":   {[]step{queued, processed, fail, written}, wire.FateProcessed},
		"receiver ends, blocked then lost": {[]step{offer(outbox.Blocked), fail, lost}, wire.FateGone},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
				dest := &stubDest{version: 2}
				tracker := tr.track(levelOptions(wire.LevelProcessed), 1, dest)
				for _, step := range tt.steps {
					tr.wantFate(t, wire.LevelProcessed, noFate)
					step(dest, tracker)
				}
				tr.wantFate(t, wire.LevelProcessed, tt.want)
				if len(dest.verdicts.waiters) != 0 {
					t.Error("a reported message waits for a verdict")
				}
				sleep(testReportTimeout)
			})
		})
	}
}

// TestTracker_Verdict_DuplicateReceiver names a receiver twice, between two others. Its verdict
// counts for both of its copies, each as soon as it is written, and for no other receiver.
func TestTracker_Verdict_DuplicateReceiver(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		v1, twice, other := &stubDest{version: 1}, &stubDest{version: 2}, &stubDest{version: 2}
		tracker := tr.track(levelOptions(wire.LevelProcessed), 1, twice, v1, twice, other)
		for _, receiver := range []int{0, 1, 3} {
			tracker.HandleEvent(receiver, outbox.EventWritten, 0, 1)
		}
		if !twice.verdicts.Apply(wire.Verdict{Sender: originID, Seq: 1, Fate: wire.FateRejected}) {
			t.Error("the message waits for no verdict")
		}
		if twice.verdicts.Apply(wire.Verdict{Sender: originID, Seq: 2, Fate: wire.FateRejected}) {
			t.Error("another message waits for a verdict")
		}
		want := map[wire.Fate]uint64{wire.FateRejected: 1, wire.FateWritten: 1}
		if got := tr.Fates(); !maps.Equal(got, want) {
			t.Errorf("the fates are counted as %v, want %v", got, want)
		}
		tracker.HandleEvent(2, outbox.EventWritten, 0, 1)
		tr.origin.wantReport(1)
		other.verdicts.Apply(wire.Verdict{Sender: originID, Seq: 1, Fate: wire.FateProcessed})
		tr.origin.wantReport(1, wire.FateRejected, wire.FateWritten, wire.FateRejected, wire.FateProcessed)
	})
}

// TestTracker_Concurrent_ReportsOnce reports the events of each receiver in its own goroutine, in
// several orders, while the report timeout ends: each message is reported once.
func TestTracker_Concurrent_ReportsOnce(t *testing.T) {
	const rounds, messages = 200, 16
	for round := range rounds {
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			dests := make([]Destination, 8)
			for i := range dests {
				dests[i] = &stubDest{version: 1 + i%2}
			}
			tracker := tr.track(levelOptions(wire.LevelReceived), messages, dests...)
			var wg sync.WaitGroup
			for i := range dests {
				wg.Go(func() {
					if i == round%10 {
						<-time.After(testReportTimeout)
					}
					for j := range messages {
						first := (j*5 + i) % messages
						tracker.HandleEvent(i, outbox.EventAcked, first, 1)
						tracker.HandleEvent(i, outbox.EventWritten, first, 1)
					}
				})
			}
			wg.Wait()
			synctest.Wait() // the timer can report as well
			for seq := range uint64(messages) {
				got := tr.origin.report(seq + 1)
				if len(got) != len(dests) || slices.ContainsFunc(got, func(f wire.Fate) bool { return f > wire.FateReceived }) {
					t.Errorf("message %d is reported as %v", seq+1, got)
				}
			}
		})
	}
}

// BenchmarkTracker_Report tracks a batch of 16 messages to 16 receivers until all are reported.
func BenchmarkTracker_Report(b *testing.B) {
	tr := newTestRelay(b, nil)
	dests := slices.Repeat([]Destination{&stubDest{version: 2}}, 16)
	b.ReportAllocs()
	for b.Loop() {
		clear(tr.origin.reports)
		tracker := tr.track(levelOptions(wire.LevelReceived), 16, dests...)
		for i := range dests {
			tracker.HandleEvent(i, outbox.EventWritten, 0, 16)
			tracker.HandleEvent(i, outbox.EventAcked, 0, 16)
		}
	}
}

// TestTracker_beginOffer_AsTracked checks that the version counts that a receiver had when the
// tracking began, and that the receiver counts as offered from now on.
func TestTracker_beginOffer_AsTracked(t *testing.T) {
	tr := newTestRelay(t, nil)
	v1, v2 := &stubDest{version: 1}, &stubDest{version: 2}
	tracker := tr.track(sendOptions(wire.LevelNone, wire.OverflowReject), 1, v1, v2, new(Remote))
	v1.version, v2.version = 2, 1
	for receiver, want := range []int{1, 2, versionRemote} {
		if got := tracker.beginOffer(receiver); got != want || tracker.offeredTo.Load() != int32(receiver+1) {
			t.Errorf("receiver %d is offered version %d, want %d; offered to %d", receiver, got, want, tracker.offeredTo.Load())
		}
	}
}
