package relay

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// undecidedBit marks a fate that can still change. The other bits say how far the message has
// come.
const undecidedBit = 0x80

// Tracker tracks the delivery of a batch of SENDs to each receiver. It drops them when they
// expire, and makes their REPORTs.
type Tracker struct {
	// Static after newTracker.
	relay      *Relay
	origin     Origin
	level      wire.Level
	firstSeq   uint64 // of the first message; the others follow without a gap
	messages   int
	dests      []Destination  // the receivers; nil: there is no such client
	waiter     *verdictWaiter // nil unless level is processed
	verdictsOf []*Verdicts    // by receiver, where waiter waits; empty unless level is processed
	options    outbox.Options // Relay.newRecorders sets Events
	v1         indexSet       // the receivers that get version 1 frames
	remote     indexSet       // the receivers at other hubs, which decide their fates
	hasRemote  bool           // remote is not empty
	fromHub    bool           // another hub has sent the messages, and counts the fates
	reportBy   time.Time      // when timer fires first; zero if level is none, or without remote

	offeredTo atomic.Int32 // how many receivers it was offered to, or is being offered to

	// mu guards the fields below.
	mu         sync.Mutex
	timer      *time.Timer // of the REPORTs: calls expire, then perhaps expireRemote
	fates      []byte      // of all receivers of the first message, then of the second …
	verdicts   []byte      // by receiver, while its copy is not written; 0: none; nil: none at all
	undecided  []int       // by message: how many of its fates are undecided
	unreported int         // messages without a REPORT
	expired    bool        // the next event of an undecided copy decides its fate
}

// newTracker begins to track a batch of messages that is about to be offered with the options of
// the tracker.
func (r *Relay) newTracker(m *Messages, messages int, dests []Destination) *Tracker {
	t := &Tracker{
		relay: r, origin: m.Origin, level: m.Options.Wire.Level(),
		firstSeq: m.FirstSeq, messages: messages, dests: append([]Destination(nil), dests...),
		fromHub: m.FromHub,
	}
	t.options = outbox.Options{
		Overflow: overflowPolicies[m.Options.Wire.Overflow()], Sender: m.Origin.ID(), Expires: m.Options.Expires,
	}
	t.classify()
	if t.level == wire.LevelNone {
		return t
	}
	t.fates = make([]byte, messages*len(dests))
	for i := range t.fates {
		t.fates[i] = undecidedBit
	}
	t.undecided = make([]int, messages)
	for j := range t.undecided {
		t.undecided[j] = len(dests)
	}
	t.unreported = messages
	if t.level == wire.LevelProcessed {
		t.awaitVerdicts()
	}
	t.startTimer(m.reportTimeout(&r.config))
	return t
}

// classify records which receivers get version 1 frames, and which are at other hubs.
func (t *Tracker) classify() {
	for i, dest := range t.dests {
		if dest == nil {
			continue
		}
		switch dest.Version() {
		case versionRemote:
			t.remote.set(i)
			t.hasRemote = true
		case 1:
			t.v1.set(i)
		}
	}
}

// beginOffer records that the batch is about to be offered to a receiver, or that there is no such
// receiver. It returns the version in which the receiver gets the batch: see Destination.Version.
// newTracker has decided that.
func (t *Tracker) beginOffer(receiver int) (version int) {
	t.offeredTo.Store(int32(receiver + 1))
	switch {
	case t.v1.has(receiver):
		return 1
	case t.remote.has(receiver):
		return versionRemote
	}
	return wire.Version2
}

// awaitVerdicts lets the VERDICTs of all receivers of version 2 reach t. A message that gets
// verdicts is alone in its batch.
func (t *Tracker) awaitVerdicts() {
	t.waiter = &verdictWaiter{verdictKey{t.origin.ID(), t.firstSeq}, t.applyVerdict}
	t.verdictsOf = make([]*Verdicts, len(t.dests))
	for i, dest := range t.dests {
		if dest != nil && !t.v1.has(i) {
			t.verdictsOf[i] = dest.Verdicts()
		}
	}
	for _, v := range t.verdictsOf { // a verdict can come at once, and reads all of them
		if v != nil {
			v.await(t.waiter)
		}
	}
}

// overflowPolicies maps the overflow policies of the protocol to those of package outbox.
var overflowPolicies = [...]outbox.Overflow{
	wire.OverflowBlock:      outbox.OverflowBlock,
	wire.OverflowReject:     outbox.OverflowReject,
	wire.OverflowDropOldest: outbox.OverflowDropOldest,
}

// onEnqueue records what an outbox did with frames of the batch.
func (t *Tracker) onEnqueue(b *outbox.Batch, outcome outbox.Outcome) {
	switch fate := outcomeFates[outcome]; fate {
	case wire.FatePending:
	case wire.FateQueued:
		t.advance(b.Receiver, b.First, b.Frames, fate)
	default:
		t.decide(b.Receiver, b.First, b.Frames, fate)
	}
}

// HandleEvent records a later event of frames of the batch: see outbox.EventHandler.
func (t *Tracker) HandleEvent(receiver int, event outbox.Event, first, frames int) {
	if t.level == wire.LevelNone && event <= outbox.EventAcked {
		return // no report is requested
	}
	if t.isFinal(receiver, event) {
		t.decide(receiver, first, frames, eventFates[event])
	} else {
		t.advance(receiver, first, frames, eventFates[event])
	}
}

// isFinal reports whether an event decides the fate for one receiver.
func (t *Tracker) isFinal(receiver int, event outbox.Event) bool {
	switch event {
	case outbox.EventQueued:
		return false
	case outbox.EventWritten:
		return t.level == wire.LevelWritten || t.v1.has(receiver) // version 1 has no ACK
	case outbox.EventAcked:
		return t.level == wire.LevelReceived
	}
	return true
}

// applyVerdict applies a verdict of a receiver's application, or FateUncertain for want of one, to
// each copy of the message that was written to that receiver, at once, and to each copy that is
// written later. A VERDICT cannot tell copies apart, because they are the same bytes. A copy that
// is never written has a fate of its own.
func (t *Tracker) applyVerdict(v *Verdicts, fate wire.Fate) {
	for receiver := range t.dests {
		if t.verdictsOf[receiver] == v && t.tryVerdict(receiver, fate) {
			t.decide(receiver, 0, t.messages, fate)
		}
	}
}

// tryVerdict reports whether a verdict decides the fate of the copy for one receiver. If that
// copy is still to be written, the first verdict is kept until then.
func (t *Tracker) tryVerdict(receiver int, verdict wire.Fate) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fates[receiver]&^undecidedBit >= byte(wire.FateWritten) {
		return true
	}
	if t.verdicts == nil {
		t.verdicts = make([]byte, len(t.dests))
	}
	if t.verdicts[receiver] == 0 {
		t.verdicts[receiver] = byte(verdict)
	}
	return false
}

// advance records how far messages have come for one receiver, and decides their fate if a
// verdict or their expiry does.
func (t *Tracker) advance(receiver, first, frames int, fate wire.Fate) {
	if t.level == wire.LevelNone {
		return
	}
	if verdict := t.recordProgress(receiver, first, frames, fate); verdict != 0 {
		t.decide(receiver, first, frames, verdict)
	}
}

// recordProgress records how far messages have come for one receiver. It returns the fate
// that is now decided, by a kept verdict or by their expiry; 0: none is.
func (t *Tracker) recordProgress(receiver, first, frames int, fate wire.Fate) (verdict wire.Fate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for j := first; j < first+frames; j++ {
		if f := &t.fates[j*len(t.dests)+receiver]; *f >= undecidedBit {
			*f = max(*f, undecidedBit|byte(fate))
		}
	}
	if fate < wire.FateWritten {
		return 0
	}
	if t.verdicts != nil {
		verdict = wire.Fate(t.verdicts[receiver])
	}
	if verdict == 0 && t.expired && !t.remote.has(receiver) {
		verdict = fate
	}
	return verdict
}

// decide sets the fates of messages for one receiver, unless they are decided already, and
// reports the messages whose last fate it has decided.
func (t *Tracker) decide(receiver, first, frames int, fate wire.Fate) {
	if t.level == wire.LevelNone {
		if fate >= wire.FateUnknown { // only failed deliveries are counted
			t.countFate(fate, frames)
		}
		return
	}
	t.mu.Lock()
	decided := 0
	var ready []int
	for j := first; j < first+frames; j++ {
		f := &t.fates[j*len(t.dests)+receiver]
		if *f < undecidedBit {
			continue
		}
		*f = byte(fate)
		decided++
		t.undecided[j]--
		if t.undecided[j] == 0 {
			ready = append(ready, j)
		}
	}
	t.mu.Unlock()
	t.countFate(fate, decided)
	t.report(ready)
}

// countFate counts n fates that were decided, at the hub of the sender only.
func (t *Tracker) countFate(fate wire.Fate, n int) {
	if !t.fromHub {
		t.relay.countFate(fate, n)
	}
}

// report sends the REPORTs of messages whose fates are decided. The call that decides the
// last fate of a message reports it, which makes one REPORT for each.
func (t *Tracker) report(ready []int) {
	if len(ready) == 0 {
		return
	}
	n := len(t.dests)
	frames := make([]byte, 0, len(ready)*wire.ReportLen(n))
	for _, j := range ready {
		frames = wire.AppendReport(frames, t.firstSeq+uint64(j), t.fates[j*n:(j+1)*n])
	}
	t.origin.SendReports(frames, len(ready))
	t.mu.Lock()
	t.unreported -= len(ready)
	allReported, timer := t.unreported == 0, t.timer
	t.mu.Unlock()
	if !allReported {
		return
	}
	if timer.Stop() {
		t.relay.config.Timers.Done()
	}
	for _, v := range t.verdictsOf {
		if v != nil {
			v.cancel(t.waiter)
		}
	}
}
