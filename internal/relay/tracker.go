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

	offeredTo atomic.Int32 // how many receivers it was offered to, or is being offered to

	// mu guards the fields below.
	mu         sync.Mutex
	timer      *time.Timer // of the REPORTs
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
	}
	t.options = outbox.Options{
		Overflow: overflowPolicies[m.Options.Wire.Overflow()], Sender: m.Origin.ID(), Expires: m.Options.Expires,
	}
	for i, dest := range dests {
		if dest != nil && dest.Version() == 1 {
			t.v1.set(i)
		}
	}
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
	r.config.Timers.Add(1)
	t.mu.Lock() // expire may run before this is over
	t.timer = time.AfterFunc(m.Options.reportTimeout(&r.config), t.expire)
	t.mu.Unlock()
	return t
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
	if verdict == 0 && t.expired {
		verdict = fate
	}
	return verdict
}

// decide sets the fates of messages for one receiver, unless they are decided already, and
// reports the messages whose last fate it has decided.
func (t *Tracker) decide(receiver, first, frames int, fate wire.Fate) {
	if t.level == wire.LevelNone {
		t.relay.countFate(fate, frames)
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
	t.relay.countFate(fate, decided)
	t.report(ready)
}

// expire is called when the report timeout or the time to live is over. If the messages have
// expired, it retracts what is still queued. It reports all undecided fates as they stand.
func (t *Tracker) expire() {
	defer t.relay.config.Timers.Done()
	expired := t.options.Expires != 0 && time.Now().UnixNano() >= t.options.Expires
	offered := int(t.offeredTo.Load()) // the other receivers are not offered expired messages
	var stillQueued indexSet
	if expired {
		for receiver, dest := range t.dests {
			if dest != nil && t.hasUndecided(receiver) && dest.Retract(&t.options) {
				stillQueued.set(receiver)
			}
		}
	}
	t.mu.Lock()
	t.expired = expired
	var ready []int
	var counts [undecidedBit]int
	for j := range t.messages {
		if t.undecided[j] == 0 {
			continue
		}
		for i := range t.dests {
			f := &t.fates[j*len(t.dests)+i]
			switch {
			case *f < undecidedBit:
				continue
			case expired && i >= offered:
				*f = byte(wire.FateExpired)
			case expired && *f < undecidedBit|byte(wire.FateWritten) && !stillQueued.has(i):
				continue // dropped or written just now: that event follows
			default:
				*f &^= undecidedBit
			}
			counts[*f]++
			t.undecided[j]--
		}
		if t.undecided[j] == 0 {
			ready = append(ready, j)
		}
	}
	t.mu.Unlock()
	for fate, n := range counts[:wire.MaxFate+1] {
		t.relay.countFate(wire.Fate(fate), n)
	}
	t.report(ready)
}

// hasUndecided reports whether a fate for one receiver is undecided.
func (t *Tracker) hasUndecided(receiver int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := receiver; i < len(t.fates); i += len(t.dests) {
		if t.fates[i] >= undecidedBit {
			return true
		}
	}
	return false
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
