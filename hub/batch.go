package hub

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// undecided marks a fate that may still change: the rest says how far it is.
const undecided = 0x80

// batch is a run of SENDs with the same receivers and options of which the hub
// follows what becomes of them: it sees to their time, and makes their reports.
type batch struct {
	// Static after newBatch.
	hub      *Hub
	peer     *peer // the sender
	level    wire.Level
	first    uint64 // seq of the first message; the others follow without a gap
	messages int
	to       []*session // the receivers; nil: there is no such client
	terms    socket.Terms
	older    places // those that get it in version 1

	reached atomic.Int32 // how many receivers it was offered to, or is being offered to

	mu       sync.Mutex
	timer    *time.Timer // of the report
	fates    []byte      // of all receivers of the first message, then of the second …
	verdicts []byte      // of each receiver whose copy is still to be written; 0: none; nil: none at all
	left     []int       // for each message: how many of its fates are undecided
	open     int         // messages that are not reported
	late     bool        // they have expired: what is undecided is decided by what is told next
}

// newBatch begins to follow the piece of a turn that is about to be offered.
func (t *turn) newBatch(first uint64, messages int, to []*session, seen onlookers) *batch {
	h := t.session.hub
	c := t.class
	b := &batch{
		hub: h, peer: t.session.link.Load().peer, level: c.options.Level(),
		first: first, messages: messages, to: append([]*session(nil), to...),
	}
	b.terms = socket.Terms{Tracker: seen.before(b), IfFull: ifFull[c.options.Overload()], Owner: b.peer, Expires: c.expires}
	for i, r := range to {
		if r != nil && r.peer() == nil {
			b.older.set(i)
		}
	}
	if b.level == wire.LevelNone {
		return b
	}
	b.fates = make([]byte, messages*len(to))
	for i := range b.fates {
		b.fates[i] = undecided
	}
	b.left = make([]int, messages)
	for j := range b.left {
		b.left[j] = len(to)
	}
	b.open = messages
	if b.level == wire.LevelProcessed {
		for i, r := range to {
			if r != nil && !b.older.has(i) {
				r.peer().await(b)
			}
		}
	}
	h.tracker.running.Add(1) // for the timer
	b.mu.Lock()              // expire may come before this is over
	b.timer = time.AfterFunc(c.reportTimeout(&h.config), b.expire)
	b.mu.Unlock()
	return b
}

// places is a set of receivers of a SEND. It is filled before the SEND is offered to the first of them:
// from then on others read it.
type places [(wire.MaxReceivers + 63) / 64]uint64

func (p *places) set(i int)      { p[i/64] |= 1 << (i % 64) }
func (p *places) has(i int) bool { return p[i/64]>>(i%64)&1 == 1 }

var ifFull = [...]socket.IfFull{
	wire.OverloadWait: socket.Park,
	wire.OverloadFail: socket.Refuse,
	wire.OverloadDrop: socket.Displace,
}

// peer returns the client of version 2 whose session it is, or nil.
func (s *session) peer() *peer {
	if s == nil {
		return nil
	}
	if l := s.link.Load(); l != nil {
		return l.peer
	}
	return nil
}

// offered notes what an outbox did with the piece.
func (b *batch) offered(p *socket.Piece, outcome socket.Outcome) {
	switch outcome {
	case socket.Queued:
		b.step(p.At, p.First, p.Frames, wire.FateQueued)
	case socket.Gone:
		b.settle(p.At, p.First, p.Frames, wire.FateGone)
	case socket.Full:
		b.settle(p.At, p.First, p.Frames, wire.FateFull)
	case socket.Late:
		b.settle(p.At, p.First, p.Frames, wire.FateExpired)
	}
}

// Progress is what an outbox tells of the messages: see socket.Tracker.
func (b *batch) Progress(at int, what socket.Progress, first, frames int) {
	if b.level == wire.LevelNone && what <= socket.Received {
		return // nobody asks how far it has come
	}
	switch what {
	case socket.Entered:
		b.step(at, first, frames, wire.FateQueued)
	case socket.Written:
		if b.level == wire.LevelWritten || b.older.has(at) { // version 1 says no more
			b.settle(at, first, frames, wire.FateWritten)
		} else {
			b.step(at, first, frames, wire.FateWritten)
		}
	case socket.Received:
		if b.level == wire.LevelReceived {
			b.settle(at, first, frames, wire.FateReceived)
		} else {
			b.step(at, first, frames, wire.FateReceived)
		}
	case socket.Expired:
		b.settle(at, first, frames, wire.FateExpired)
	case socket.Displaced:
		b.settle(at, first, frames, wire.FateFull)
	case socket.Unsent:
		b.settle(at, first, frames, wire.FateGone)
	case socket.Unheard:
		b.settle(at, first, frames, wire.FateUncertain)
	case socket.Unreachable:
		b.settle(at, first, frames, wire.FateUnreachable)
	case socket.Oversized:
		b.settle(at, first, frames, wire.FateTooLarge)
	}
}

// acked is the verdict of a receiver's application on the message: on each copy that was written
// to it, at once, and on each that is written later. Copies are the same bytes, so an ACK cannot
// tell one from another; but one that is never written has a fate of its own.
func (b *batch) acked(p *peer, fate wire.Fate) {
	for at, s := range b.to {
		if s.peer() == p && b.judge(at, fate) {
			b.settle(at, 0, b.messages, fate)
		}
	}
}

// judge reports whether a verdict decides the fate of the copy at one place. If that is still to be
// written, the verdict is kept until then, the first of several. A message that gets
// verdicts is alone in its batch.
func (b *batch) judge(at int, verdict wire.Fate) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fates[at]&^undecided >= byte(wire.FateWritten) {
		return true
	}
	if b.verdicts == nil {
		b.verdicts = make([]byte, len(b.to))
	}
	if b.verdicts[at] == 0 {
		b.verdicts[at] = byte(verdict)
	}
	return false
}

// step notes how far messages have come for one receiver.
func (b *batch) step(at, first, frames int, fate wire.Fate) {
	if b.level == wire.LevelNone {
		return
	}
	if verdict := b.advance(at, first, frames, fate); verdict != 0 {
		b.settle(at, first, frames, verdict)
	}
}

// advance is step, and returns what decides the fate now: a verdict, or that there is no more time;
// 0: nothing does.
func (b *batch) advance(at, first, frames int, fate wire.Fate) (verdict wire.Fate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for j := first; j < first+frames; j++ {
		if f := &b.fates[j*len(b.to)+at]; *f >= undecided {
			*f = max(*f, undecided|byte(fate))
		}
	}
	if fate < wire.FateWritten {
		return 0
	}
	if b.verdicts != nil {
		verdict = wire.Fate(b.verdicts[at])
	}
	if verdict == 0 && b.late {
		verdict = fate
	}
	return verdict
}

// settle decides the fates of messages for one receiver, unless they are decided,
// and reports those for which it was the last.
func (b *batch) settle(at, first, frames int, fate wire.Fate) {
	if b.level == wire.LevelNone {
		b.hub.counters.fates[fate].Add(uint64(frames))
		return
	}
	b.mu.Lock()
	decided := 0
	var ready []int
	for j := first; j < first+frames; j++ {
		f := &b.fates[j*len(b.to)+at]
		if *f < undecided {
			continue
		}
		*f = byte(fate)
		decided++
		b.left[j]--
		if b.left[j] == 0 {
			ready = append(ready, j)
		}
	}
	b.mu.Unlock()
	b.hub.counters.fates[fate].Add(uint64(decided))
	b.report(ready)
}

// expire is called when the time is up: what is still queued is taken back if it
// is worth nothing any more, and the rest is reported as it stands.
func (b *batch) expire() {
	defer b.hub.tracker.running.Done()
	late := b.terms.Expires != 0 && time.Now().UnixNano() >= b.terms.Expires
	reached := int(b.reached.Load()) // the others are offered nothing, if it is late
	var held places
	if late {
		for at, s := range b.to {
			if s != nil && b.undecided(at) && s.conn.Retract(&b.terms) {
				held.set(at)
			}
		}
	}
	b.mu.Lock()
	b.late = late
	var ready []int
	var stood [undecided]uint64
	for j := range b.messages {
		if b.left[j] == 0 {
			continue
		}
		for i := range b.to {
			f := &b.fates[j*len(b.to)+i]
			switch {
			case *f < undecided:
				continue
			case late && i >= reached:
				*f = byte(wire.FateExpired)
			case late && *f < undecided|byte(wire.FateWritten) && !held.has(i):
				continue // it was dropped or written in this moment: that will be told
			default:
				*f &^= undecided
			}
			stood[*f]++
			b.left[j]--
		}
		if b.left[j] == 0 {
			ready = append(ready, j)
		}
	}
	b.mu.Unlock()
	for fate, n := range stood[:len(b.hub.counters.fates)] {
		b.hub.counters.fates[fate].Add(n)
	}
	b.report(ready)
}

func (b *batch) undecided(at int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := at; i < len(b.fates); i += len(b.to) {
		if b.fates[i] >= undecided {
			return true
		}
	}
	return false
}

// report tells the sender what became of messages that are decided. Each is
// reported by the one who has decided its last fate, so once.
func (b *batch) report(ready []int) {
	if len(ready) == 0 {
		return
	}
	n := len(b.to)
	frames := make([]byte, 0, len(ready)*wire.ReportLen(n))
	for _, j := range ready {
		frames = wire.AppendReport(frames, b.first+uint64(j), b.fates[j*n:(j+1)*n])
	}
	b.peer.report(frames, len(ready))
	b.mu.Lock()
	b.open -= len(ready)
	over, timer := b.open == 0, b.timer
	b.mu.Unlock()
	if !over {
		return
	}
	if timer.Stop() {
		b.hub.tracker.running.Done()
	}
	if b.level == wire.LevelProcessed {
		for _, r := range b.to {
			if p := r.peer(); p != nil {
				p.awaitNoMore(b)
			}
		}
	}
}

func (b *batch) key() ackKey { return ackKey{b.peer.id, b.first} }

// await lets the peer's ACK for a message reach its batch.
func (p *peer) await(b *batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.awaiting == nil {
		p.awaiting = make(map[ackKey]*batch)
	}
	p.awaiting[b.key()] = b
}

func (p *peer) awaitNoMore(b *batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.awaiting, b.key())
}

// silence decides the messages of which the peer was to say what its application made of
// them: it has left, and never will.
func (p *peer) silence() {
	p.mu.Lock()
	left := slices.Collect(maps.Values(p.awaiting))
	p.mu.Unlock()
	for _, b := range left {
		b.silenced(p)
	}
}

// silenced decides what a receiver has not decided, for it never will: whatever was queued for it
// has met its fate already.
func (b *batch) silenced(p *peer) {
	for at, s := range b.to {
		if s.peer() == p {
			b.settle(at, 0, b.messages, wire.FateUncertain)
		}
	}
}

// ack hands an ACK to its batch. It reports whether anybody waits for it.
func (p *peer) ack(a wire.Ack) bool {
	p.mu.Lock()
	b := p.awaiting[ackKey{a.Sender, a.Seq}]
	p.mu.Unlock()
	if b == nil {
		return false
	}
	b.acked(p, a.Fate)
	return true
}
