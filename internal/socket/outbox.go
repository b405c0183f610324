package socket

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// Piece is a run of whole frames in a buffer. It holds no reference: whoever
// makes a Piece keeps its buffer alive while it is offered.
type Piece struct {
	Buffer     *body.Buffer
	From, To   int
	Frames     int
	Deliveries int // how many of the frames carry a message

	// Counted says that the frames are kept until the peer has acknowledged them, if
	// the outbox keeps any: see Number. All frames of a piece are counted, or none.
	Counted bool

	Terms *Terms // nil: none
	At    int    // which receiver of Terms this outbox is: what its Tracker is told
	First int    // number of the first frame, where the Tracker counts from an earlier one
}

// Outcome is what an outbox did with a piece.
type Outcome int

// The outcomes of Offer.
const (
	Queued   Outcome = iota // it is in the queue
	Parked                  // the queue is full: Dispatch.Wait waits for its turn
	Gone                    // the outbox is closed
	Full                    // the queue is full, and the piece does not wait for room
	TooLarge                // it carries a message in a frame above SetMaxFrame: nothing of it was taken
	Late                    // it has expired before it was offered
)

// parked is a piece that waits for room, in the order of its coming.
type parked struct {
	piece  Piece
	ticket *ticket
}

// Outbox is what waits to be written to a connection: a queue that is bounded in
// bytes. Small pieces are copied into its tail, large ones are held by reference,
// and many leave in one write.
//
// An empty outbox has no goroutine and no memory. The offer that makes it
// non-empty leads to a flusher, which ends when the queue is dry or the
// connection is closed; a little for one receiver alone is written without one
// (Dispatch.Flush). All methods may be called concurrently.
type Outbox struct {
	// Static after init.
	base *base

	// Owned by the flusher.
	dryAt int64 // when it last ran dry, in ns since 1970, if Quiet asks for it

	mu       sync.Mutex
	ledger   *ledger  // nil: what is written is done with
	queue    *queue   // nil while dry
	weight   int      // bytes queued, with what their bookkeeping costs
	parked   []parked // first come, first served
	flushing bool     // a flusher runs, or somebody has promised to start it
	closed   bool
	sealed   bool          // Terms.Last was taken
	waiting  int32         // how many wait until it is written, by Drain or Press
	dried    uint32        // how often the queue ran dry
	maxFrame int32         // see SetMaxFrame
	dry      chan struct{} // closed when the flusher ends; nil: nobody asked
	sent     int64         // bytes written
	clock    *stallClock   // nil: it does not run
}

func (o *Outbox) init(b *base) { o.base = b }

// Offer queues the frames of p, or parks them when the queue is full, unless the
// piece has other terms. d gathers what the caller has to do afterwards: Flush at
// the end of its batch, and Wait when anything was parked.
func (o *Outbox) Offer(p *Piece, d *Dispatch) Outcome {
	small := p.To-p.From <= copyMost && p.Terms == nil
	if small {
		d.prepare()
	}
	o = o.lock()
	outcome := o.offer(p, small, d)
	o.mu.Unlock()
	if len(d.settled.buffers) > 0 {
		d.settled.end()
	}
	return outcome
}

// SetMaxFrame bounds the size of a frame that carries a message, in bytes on the wire; 0: there is
// no bound. What was offered before stays; what Move brings does not.
func (o *Outbox) SetMaxFrame(bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.maxFrame = int32(min(bytes, math.MaxInt32))
}

// MaxFrame returns what SetMaxFrame has set, for the connection to which the peer has moved if it has.
func (o *Outbox) MaxFrame() int {
	o = o.lock()
	defer o.mu.Unlock()
	return int(o.maxFrame)
}

// Retract takes back what was offered with these terms, has expired and is not being written. What
// was written on a connection that is lost is told to be Unheard, unless the peer has read it. It
// returns held if something is left in the queue, which may still be written. Otherwise everything
// has been told of what was offered before, or another goroutine is about to.
func (o *Outbox) Retract(terms *Terms) (held bool) {
	var out settled
	o = o.lock()
	own := func(s *segment) bool { return s.terms == terms }
	if o.queue != nil {
		o.weight -= o.queue.remove(Expired, &out, own)
		if o.ledger != nil && o.ledger.skips {
			o.weight -= o.queue.skip(&out, own)
		}
		held = slices.ContainsFunc(o.queue.segments[o.queue.head:], func(s segment) bool { return s.terms == terms })
	}
	if o.ledger != nil && o.ledger.detached {
		o.ledger.lapse(&out, own)
	}
	rest := o.parked[:0]
	for _, w := range o.parked {
		if w.piece.Terms == terms {
			s := segmentOf(&w.piece)
			out.discard(&s, Expired)
			out.tickets = append(out.tickets, w.ticket)
		} else {
			rest = append(rest, w)
		}
	}
	clear(o.parked[len(rest):])
	o.parked = rest
	o.admit(&out)
	o.mu.Unlock()
	out.end()
	return held
}

// Pulse is where an outbox stands: what a warden compares to tell a slow
// receiver from a busy one.
type Pulse struct {
	Sent   int64  // bytes written so far
	Dried  uint32 // how often it had nothing left to write
	Busy   bool   // something is queued
	Queued int    // bytes of that, with what its bookkeeping costs
}

// Pulse returns where the outbox stands.
func (o *Outbox) Pulse() Pulse {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Pulse{Sent: o.sent, Dried: o.dried, Busy: o.queue != nil, Queued: o.weight}
}

// Accounts appends those who are charged for what is queued, some perhaps more
// than once.
func (o *Outbox) Accounts(to []*body.Account) []*body.Account {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.queue == nil {
		return to
	}
	return accounts(to, o.queue.segments[o.queue.head:])
}

func accounts(to []*body.Account, segments []segment) []*body.Account {
	var last *body.Account
	for _, s := range segments {
		if s.buffer == nil {
			continue
		}
		if a := s.buffer.Account(); a != nil && a != last {
			to = append(to, a)
			last = a
		}
	}
	return to
}

// withdraw takes a parked piece back. It returns false when the piece is queued,
// sent or lost already.
func (o *Outbox) withdraw(t *ticket) bool {
	o = o.lock()
	defer o.mu.Unlock()
	for i := range o.parked {
		if o.parked[i].ticket == t {
			o.parked[i].piece.Buffer.Release()
			o.parked = append(o.parked[:i], o.parked[i+1:]...)
			return true
		}
	}
	return false
}

func (o *Outbox) isClosed() bool {
	o = o.lock()
	defer o.mu.Unlock()
	return o.closed
}

// lock locks the outbox, or the one that it has moved to, and returns that.
func (o *Outbox) lock() *Outbox {
	for {
		o.mu.Lock()
		if o.ledger == nil || o.ledger.moved == nil {
			return o
		}
		next := o.ledger.moved
		o.mu.Unlock()
		o = next
	}
}

// The following are called with mu held.

// offer is Offer.
func (o *Outbox) offer(p *Piece, small bool, d *Dispatch) Outcome {
	if o.closed || o.sealed {
		return Gone
	}
	if p.Deliveries > 0 && o.exceeds(p.Buffer, p.From, p.To) {
		return TooLarge
	}
	if t := p.Terms; t != nil && t.Expires != 0 && time.Now().UnixNano() >= t.Expires {
		return Late
	}
	o.sealed = p.Terms != nil && p.Terms.Last
	if len(o.parked) > 0 || o.full() {
		switch ifFull := p.Terms.ifFull(); {
		case ifFull == Park:
			o.park(p, d)
			return Parked
		case ifFull == Insist, ifFull == Overtake:
		case ifFull == Refuse || !o.displace(p.Terms.Owner, &d.settled):
			return Full
		default:
			o.admit(&d.settled) // whoever waits has come before
			if len(o.parked) > 0 || o.full() {
				o.park(p, d)
				return Parked
			}
		}
	}
	switch {
	case small:
		o.copyIn(p, d)
	case p.Terms.ifFull() == Overtake:
		o.overtake(p)
	default:
		o.refer(p)
	}
	o.wake(d)
	return Queued
}

// exceeds reports whether there is a frame above maxFrame among those in a part of a buffer.
func (o *Outbox) exceeds(b *body.Buffer, from, to int) bool {
	if o.maxFrame == 0 || to-from <= int(o.maxFrame) {
		return false
	}
	for frame := range wire.Frames(b.Bytes()[from:to]) {
		if len(frame) > int(o.maxFrame) {
			return true
		}
	}
	return false
}

// park has p wait for room.
func (o *Outbox) park(p *Piece, d *Dispatch) {
	o.press()
	p.Buffer.Retain()
	o.parked = append(o.parked, parked{*p, d.promise()})
}

// displace makes room by giving up the oldest pieces of owner that came on such
// terms. It reports whether there is some.
func (o *Outbox) displace(owner any, out *settled) bool {
	if o.queue == nil {
		return false
	}
	room := !o.full()
	o.weight -= o.queue.remove(Displaced, out, func(s *segment) bool {
		if room || s.terms.ifFull() != Displace || s.terms.Owner != owner {
			return false
		}
		room = true // one for one: segments are few, and may be of any size
		return true
	})
	return !o.full()
}

// wake sees to it that there is a flusher, if there may be one.
func (o *Outbox) wake(d *Dispatch) {
	if !o.flushing && !o.ledger.rests() && o.queue != nil {
		o.flushing = true
		d.wake = append(d.wake, o)
	}
}

// copyIn copies p behind what is queued. Without memory for a further block, p
// is held by reference after all.
func (o *Outbox) copyIn(p *Piece, d *Dispatch) {
	if o.queue != nil && o.queue.copyIn(p) {
		o.weight += p.To - p.From
		return
	}
	if d.spare == nil {
		o.refer(p)
		return
	}
	block := d.spare
	d.spare = nil
	o.push(&segment{
		buffer: block, to: copy(block.Bytes(), p.Buffer.Bytes()[p.From:p.To]),
		frames: p.Frames, deliveries: p.Deliveries, block: true, counted: p.Counted,
	})
	o.weight += p.To - p.From
}

// full reports whether senders have to wait: for bytes, or because so many pieces
// are queued that their bookkeeping would be what takes the memory.
func (o *Outbox) full() bool {
	return o.weight >= o.base.config.OutboxBytes ||
		o.queue != nil && len(o.queue.segments)-o.queue.head >= segmentsMost
}

// refer queues p by reference.
func (o *Outbox) refer(p *Piece) {
	p.Buffer.Retain()
	s := segmentOf(p)
	o.push(&s)
	o.weight += s.weight()
}

// overtake queues p by reference before what is queued, and sees to it that it is written
// although the peer must acknowledge something before the rest is.
func (o *Outbox) overtake(p *Piece) {
	p.Buffer.Retain()
	s := segmentOf(p)
	o.open()
	o.queue.overtake(&s)
	o.weight += s.weight()
	if o.ledger != nil {
		o.ledger.paused = false // the flusher finds out again
	}
}

func segmentOf(p *Piece) segment {
	return segment{
		buffer: p.Buffer, from: p.From, to: p.To, frames: p.Frames, deliveries: p.Deliveries,
		counted: p.Counted, terms: p.Terms, at: int16(p.At), index: int32(p.First),
	}
}

func (o *Outbox) push(s *segment) {
	o.open()
	o.queue.push(s)
}

// open makes sure that there is a queue.
func (o *Outbox) open() {
	if o.queue == nil {
		o.queue = newQueue(o)
	}
}

// admit queues parked pieces for as long as there is room.
func (o *Outbox) admit(out *settled) {
	n := 0
	for n < len(o.parked) && !o.full() {
		s := segmentOf(&o.parked[n].piece)
		switch {
		case s.expires() && s.expired(time.Now().UnixNano()):
			out.discard(&s, Expired)
		default:
			out.events = s.note(out.events, Entered, s.frames)
			o.push(&s)
			o.weight += s.weight()
		}
		out.tickets = append(out.tickets, o.parked[n].ticket)
		n++
	}
	if n > 0 {
		rest := copy(o.parked, o.parked[n:])
		clear(o.parked[rest:])
		o.parked = o.parked[:rest]
		if rest == 0 {
			o.parked = nil
		}
	}
}
