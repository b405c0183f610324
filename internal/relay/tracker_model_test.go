package relay

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// modelCopy is what a naive model knows of one message to one receiver.
type modelCopy struct {
	progress wire.Fate // pending, queued, written or received
	fate     wire.Fate // noFate: undecided
	verdict  wire.Fate // noFate: none came while the copy was not written
}

// decide sets the fate, unless it is decided.
func (c *modelCopy) decide(fate wire.Fate) {
	if c.fate == noFate {
		c.fate = fate
	}
}

// trackerModel tracks a batch as a Tracker does, by rules that look at one copy alone.
type trackerModel struct {
	level   wire.Level
	dests   []*stubDest           // nil: there is no such client
	remotes map[*stubDest]*Remote // of the dests that stand for receivers at another hub
	copies  [][]modelCopy         // by message, then by receiver
	offered int                   // receivers
	expired bool
}

// modelEvents says what the events do that end a delivery.
var modelEvents = map[outbox.Event]wire.Fate{
	outbox.EventExpired: wire.FateExpired, outbox.EventDropped: wire.FateFull, outbox.EventLost: wire.FateGone,
	outbox.EventUnacked: wire.FateUncertain, outbox.EventUnreachable: wire.FateUnreachable, outbox.EventTooLarge: wire.FateTooLarge,
}

// modelProgress says how far the other events bring a message.
var modelProgress = map[outbox.Event]wire.Fate{
	outbox.EventQueued: wire.FateQueued, outbox.EventWritten: wire.FateWritten, outbox.EventAcked: wire.FateReceived,
}

// apply applies an event to one copy.
func (m *trackerModel) apply(message, receiver int, event outbox.Event) {
	c := &m.copies[message][receiver]
	if fate, ok := modelEvents[event]; ok {
		c.decide(fate)
		return
	}
	reached := modelProgress[event]
	c.progress = max(c.progress, reached)
	switch {
	case event == outbox.EventWritten && (m.level == wire.LevelWritten || m.dests[receiver].version == 1),
		event == outbox.EventAcked && m.level == wire.LevelReceived:
		c.decide(reached)
	case reached >= wire.FateWritten && c.verdict != noFate:
		c.decide(c.verdict)
	case reached >= wire.FateWritten && m.expired && m.remotes[m.dests[receiver]] == nil:
		c.decide(reached)
	}
}

// applyVerdict applies a verdict of a receiver to all its copies.
func (m *trackerModel) applyVerdict(dest *stubDest, fate wire.Fate) {
	for receiver, d := range m.dests {
		c := &m.copies[0][receiver]
		switch {
		case d != dest:
		case c.progress >= wire.FateWritten:
			c.decide(fate)
		case c.verdict == noFate:
			c.verdict = fate
		}
	}
}

// timeout ends the report timeout, or the time to live.
func (m *trackerModel) timeout(expired bool) {
	m.expired = expired
	for _, copies := range m.copies {
		for receiver := range copies {
			c, d := &copies[receiver], m.dests[receiver]
			switch {
			case m.remotes[d] != nil: // the other hub decides
			case expired && receiver >= m.offered:
				c.decide(wire.FateExpired)
			case expired && c.progress < wire.FateWritten && (d == nil || !d.stillQueued):
			default:
				c.decide(c.progress)
			}
		}
	}
}

// graceOver ends the time in which other hubs decide fates.
func (m *trackerModel) graceOver() {
	for _, copies := range m.copies {
		for receiver := range copies {
			switch c := &copies[receiver]; {
			case m.remotes[m.dests[receiver]] == nil:
			case m.expired && c.progress < wire.FateWritten:
				c.decide(wire.FateUncertain)
			default:
				c.decide(c.progress)
			}
		}
	}
}

// wantRetracts returns how often each Remote must be asked to retract the messages that expire now.
func (m *trackerModel) wantRetracts() map[*Remote]int {
	want := make(map[*Remote]int)
	for _, copies := range m.copies {
		for receiver, c := range copies {
			if remote := m.remotes[m.dests[receiver]]; remote != nil && c.fate == noFate {
				want[remote] = 1
			}
		}
	}
	return want
}

// report returns the fates of a message, or nil if one of them is undecided.
func (m *trackerModel) report(message int) (fates []wire.Fate) {
	for _, c := range m.copies[message] {
		if c.fate == noFate {
			return nil
		}
		fates = append(fates, c.fate)
	}
	return fates
}

// modelRun applies random steps to a Tracker and to the model.
type modelRun struct {
	t       *testing.T
	rnd     *rand.Rand
	tr      *testRelay
	tracker *Tracker
	model   trackerModel
	events  TransferEvents // of the receivers at other hubs
	ends    time.Time      // of the report timeout or the time to live
	expires bool           // the time to live is shorter
	ended   bool
	late    bool // the grace for other hubs is over as well
}

// newModelRun begins with random receivers, messages and options.
func newModelRun(t *testing.T, rnd *rand.Rand, tr *testRelay) *modelRun {
	run := &modelRun{t: t, rnd: rnd, tr: tr, expires: rnd.IntN(2) == 0}
	run.model = trackerModel{level: allLevels[1+rnd.IntN(3)], remotes: make(map[*stubDest]*Remote)}
	opts := levelOptions(run.model.level)
	run.ends = time.Now().Add(testReportTimeout)
	if run.expires {
		run.ends = time.Now().Add(time.Second)
		opts.Expires = run.ends.UnixNano()
	}
	messages := 1 + rnd.IntN(4)
	if opts.Unbatchable() {
		messages = 1
	}
	dests := make([]Destination, 1+rnd.IntN(5))
	for i := range dests {
		var d *stubDest
		switch kind := rnd.IntN(8); {
		case kind == 0:
		case kind == 1 && i > 0:
			d = run.model.dests[rnd.IntN(i)] // a duplicate, or at the same hub, perhaps
		case kind >= 6:
			d = &stubDest{version: 2}
			run.model.remotes[d] = &Remote{new(testPeer)}
		default:
			d = &stubDest{version: 1 + kind%2, stillQueued: rnd.IntN(3) == 0}
		}
		run.model.dests = append(run.model.dests, d)
		if remote := run.model.remotes[d]; remote != nil {
			dests[i] = remote
		} else if d != nil {
			dests[i] = d
		}
	}
	for range messages {
		run.model.copies = append(run.model.copies, slices.Repeat([]modelCopy{{fate: noFate, verdict: noFate}}, len(dests)))
	}
	run.tracker = tr.track(opts, messages, dests...)
	run.events = &transferEvents{run.tracker, recorders{tracker: run.tracker}}
	return run
}

// step applies one random step.
func (run *modelRun) step() {
	m, rnd := &run.model, run.rnd
	receiver := rnd.IntN(len(m.dests))
	first := rnd.IntN(len(m.copies))
	frames := 1 + rnd.IntN(len(m.copies)-first)
	dest := m.dests[receiver]
	switch kind := rnd.IntN(12); {
	case kind == 0:
		m.offered = max(m.offered, receiver+1)
		run.tracker.offeredTo.Store(int32(m.offered))
	case kind == 1 && rnd.IntN(4) == 0:
		run.end()
	case kind == 1 && run.ended && rnd.IntN(4) == 0:
		run.endGrace()
	case dest == nil:
		fate := []wire.Fate{wire.FateUnknown, wire.FateRefused}[rnd.IntN(2)]
		run.tracker.decide(receiver, first, frames, fate)
		for j := first; j < first+frames; j++ {
			m.copies[j][receiver].decide(fate)
		}
	case m.remotes[dest] != nil:
		run.stepRemote(receiver, first, frames)
	case kind == 2 && dest.version == 2 && m.level == wire.LevelProcessed:
		fate := []wire.Fate{wire.FateProcessed, wire.FateRejected}[rnd.IntN(2)]
		if dest.verdicts.Apply(wire.Verdict{Sender: originID, Seq: 1, Fate: fate}) != (m.report(0) == nil) {
			run.t.Error("a message waits for a verdict although it is reported, or the reverse")
		}
		m.applyVerdict(dest, fate)
	case kind == 3 && dest.version == 2 && m.level == wire.LevelProcessed && rnd.IntN(2) == 0:
		dest.verdicts.Fail()
		m.applyVerdict(dest, wire.FateUncertain)
	case kind == 4:
		run.tracker.onEnqueue(&outbox.Batch{Receiver: receiver, First: first, Frames: frames}, outbox.Queued)
		run.apply(receiver, outbox.EventQueued, first, frames)
	default:
		event := outbox.Event(rnd.IntN(int(outbox.EventAcked) + 1))
		if rnd.IntN(6) == 0 {
			event = outbox.Event(rnd.IntN(int(outbox.EventTooLarge) + 1))
		}
		run.tracker.HandleEvent(receiver, event, first, frames)
		run.apply(receiver, event, first, frames)
	}
}

// stepRemote applies an event of a receiver at another hub, or a fate that this hub has decided.
func (run *modelRun) stepRemote(receiver, first, frames int) {
	if run.rnd.IntN(4) == 0 {
		fates := wire.Fates()
		fate := fates[run.rnd.IntN(len(fates))]
		run.events.Decide(receiver, first, frames, fate)
		for j := first; j < first+frames; j++ {
			run.model.copies[j][receiver].decide(fate)
		}
		return
	}
	event := outbox.Event(run.rnd.IntN(int(outbox.EventAcked) + 1))
	if run.rnd.IntN(8) == 0 {
		event = []outbox.Event{outbox.EventExpired, outbox.EventUnacked, outbox.EventUnreachable}[run.rnd.IntN(3)]
	}
	run.events.HandleEvent(receiver, event, first, frames)
	run.apply(receiver, event, first, frames)
}

// apply applies an event to the model.
func (run *modelRun) apply(receiver int, event outbox.Event, first, frames int) {
	for j := first; j < first+frames; j++ {
		run.model.apply(j, receiver, event)
	}
}

// end ends the report timeout or the time to live.
func (run *modelRun) end() {
	if !run.ended {
		run.ended = true
		want := make(map[*Remote]int)
		if run.expires {
			want = run.model.wantRetracts()
		}
		<-time.After(time.Until(run.ends))
		synctest.Wait()
		run.model.timeout(run.expires)
		for _, remote := range run.model.remotes {
			if got := remote.Peer.(*testPeer).retracts(); got != want[remote] {
				run.t.Errorf("%d calls of Retract at a hub, want %d", got, want[remote])
			}
		}
	}
}

// endGrace ends the grace for other hubs.
func (run *modelRun) endGrace() {
	if !run.late {
		run.late = true
		sleep(remoteGrace)
		run.model.graceOver()
	}
}

// check compares all reports with the model.
func (run *modelRun) check() {
	run.t.Helper()
	for j := range run.model.copies {
		run.tr.origin.wantReport(uint64(j+1), run.model.report(j)...)
	}
}

// finish ends the timeout and decides the fates that wait for a last event. It checks the
// statistics.
func (run *modelRun) finish() {
	run.end()
	run.endGrace()
	run.check()
	want := map[wire.Fate]uint64{}
	for j, copies := range run.model.copies {
		for receiver := range copies {
			run.tracker.HandleEvent(receiver, outbox.EventLost, j, 1)
			run.model.apply(j, receiver, outbox.EventLost)
			want[copies[receiver].fate]++
		}
	}
	run.check()
	if got := run.tr.Fates(); !maps.Equal(got, want) {
		run.t.Errorf("the fates are counted as %v, want %v", got, want)
	}
}

// TestTracker_Model applies random events, verdicts and timeouts to trackers of random batches, and
// compares the reports after each step with those of a naive model. The origin checks that each
// message is reported once.
func TestTracker_Model(t *testing.T) {
	seed := rand.Uint64()
	for round := range uint64(1000) {
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			run := newModelRun(t, rand.New(rand.NewPCG(seed, round)), tr)
			for range 40 {
				run.step()
				run.check()
			}
			run.finish()
		})
		if t.Failed() {
			t.Fatalf("seed %d, round %d", seed, round)
		}
	}
}
