package socket

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// Batch is a run of whole frames in a buffer. It holds no reference: whoever
// makes a Piece keeps its buffer alive while it is offered.
type Batch struct {
	Buffer     *body.Buffer
	From, To   int
	Frames     int
	Deliveries int // how many of the frames carry a message

	// Reliable says that the frames are kept until the peer has acknowledged them, if
	// the outbox keeps any: see Number. All frames of a piece are counted, or none.
	Reliable bool

	Options  *Options // nil: none
	Receiver int      // which receiver of Terms this outbox is: what its Tracker is told
	First    int      // number of the first frame, where the Tracker counts from an earlier one
}

// Outcome is what an outbox did with a piece.
type Outcome int

// The outcomes of Offer.
const (
	Queued         Outcome = iota // it is in the queue
	Blocked                       // the queue is full: Flusher.Wait waits for its turn
	Closed                        // the outbox is closed
	Full                          // the queue is full, and the piece does not wait for room
	TooLarge                      // it carries a message in a frame above SetMaxFrame: nothing of it was taken
	AlreadyExpired                // it has expired before it was offered
)

// blockedSend is a piece that waits for room, in the order of its coming.
type blockedSend struct {
	batch  Batch
	waiter *waiter
}

// Outbox is what waits to be written to a connection: a queue that is bounded in
// bytes. Small pieces are copied into its tail, large ones are held by reference,
// and many leave in one write.
//
// An empty outbox has no goroutine and no memory. The offer that makes it
// non-empty leads to a flusher, which ends when the queue is dry or the
// connection is closed; a little for one receiver alone is written without one
// (Flusher.Flush). All methods may be called concurrently.
type Outbox struct {
	// Static after init.
	base *base

	// Owned by the flusher.
	idleSince int64 // when it last ran dry, in ns since 1970, if Quiet asks for it

	mu         sync.Mutex
	retransmit *retransmitQueue // nil: what is written is done with
	queue      *queue           // nil while dry
	weight     int              // bytes queued, with what their bookkeeping costs
	blocked    []blockedSend    // first come, first served
	flushing   bool             // a flusher runs, or somebody has promised to start it
	closed     bool
	sealed     bool          // Options.Last was taken
	waiters    int32         // how many wait until it is written, by Drain or Press
	drainCount uint32        // how often the queue ran dry
	maxFrame   int32         // see SetMaxFrame
	idle       chan struct{} // closed when the flusher ends; nil: nobody asked
	sent       int64         // bytes written
	stallTimer *stallTimer   // nil: it does not run
}

func (o *Outbox) init(b *base) { o.base = b }

// Offer queues the frames of p, or parks them when the queue is full, unless the
// piece has other terms. d gathers what the caller has to do afterwards: Flush at
// the end of its batch, and Wait when anything was parked.
func (o *Outbox) Offer(batch *Batch, fl *Flusher) Outcome {
	small := batch.To-batch.From <= maxCopy && batch.Options == nil
	if small {
		fl.ensureSpareBlock()
	}
	o = o.lock()
	outcome := o.offer(batch, small, fl)
	o.mu.Unlock()
	if len(fl.completions.buffers) > 0 {
		fl.completions.run()
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
func (o *Outbox) Retract(options *Options) (stillQueued bool) {
	var out completions
	o = o.lock()
	matches := func(s *segment) bool { return s.options == options }
	if o.queue != nil {
		o.weight -= o.queue.remove(EventExpired, &out, matches)
		if o.retransmit != nil && o.retransmit.skipSupported {
			o.weight -= o.queue.replaceWithSkips(&out, matches)
		}
		stillQueued = slices.ContainsFunc(o.queue.segments[o.queue.head:], func(s segment) bool { return s.options == options })
	}
	if o.retransmit != nil && o.retransmit.detached {
		o.retransmit.reportExpiredUnacked(&out, matches)
	}
	remaining := o.blocked[:0]
	for _, send := range o.blocked {
		if send.batch.Options == options {
			s := segmentOf(&send.batch)
			out.discard(&s, EventExpired)
			out.waiters = append(out.waiters, send.waiter)
		} else {
			remaining = append(remaining, send)
		}
	}
	clear(o.blocked[len(remaining):])
	o.blocked = remaining
	o.unblockSends(&out)
	o.mu.Unlock()
	out.run()
	return stillQueued
}

// Progress is where an outbox stands: what a warden compares to tell a slow
// receiver from a busy one.
type Progress struct {
	Sent       int64  // bytes written so far
	DrainCount uint32 // how often it had nothing left to write
	Busy       bool   // something is queued
	Queued     int    // bytes of that, with what its bookkeeping costs
}

// Progress returns where the outbox stands.
func (o *Outbox) Progress() Progress {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Progress{Sent: o.sent, DrainCount: o.drainCount, Busy: o.queue != nil, Queued: o.weight}
}

// Accounts appends those who are charged for what is queued, some perhaps more
// than once.
func (o *Outbox) Accounts(to []*body.Account) []*body.Account {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.queue == nil {
		return to
	}
	return appendAccounts(to, o.queue.segments[o.queue.head:])
}

func appendAccounts(to []*body.Account, segments []segment) []*body.Account {
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

// cancelBlocked takes a parked piece back. It returns false when the piece is queued,
// sent or lost already.
func (o *Outbox) cancelBlocked(w *waiter) bool {
	o = o.lock()
	defer o.mu.Unlock()
	for i := range o.blocked {
		if o.blocked[i].waiter == w {
			o.blocked[i].batch.Buffer.Release()
			o.blocked = append(o.blocked[:i], o.blocked[i+1:]...)
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
		if o.retransmit == nil || o.retransmit.movedTo == nil {
			return o
		}
		next := o.retransmit.movedTo
		o.mu.Unlock()
		o = next
	}
}

// The following are called with mu held.

// offer is Offer.
func (o *Outbox) offer(batch *Batch, small bool, fl *Flusher) Outcome {
	if o.closed || o.sealed {
		return Closed
	}
	if batch.Deliveries > 0 && o.exceedsMaxFrame(batch.Buffer, batch.From, batch.To) {
		return TooLarge
	}
	if options := batch.Options; options != nil && options.Expires != 0 && time.Now().UnixNano() >= options.Expires {
		return AlreadyExpired
	}
	o.sealed = batch.Options != nil && batch.Options.Last
	if len(o.blocked) > 0 || o.full() {
		switch overflow := batch.Options.overflow(); {
		case overflow == OverflowBlock:
			o.addBlocked(batch, fl)
			return Blocked
		case overflow == OverflowForce, overflow == OverflowPriority:
		case overflow == OverflowReject || !o.dropOldest(batch.Options.Sender, &fl.completions):
			return Full
		default:
			o.unblockSends(&fl.completions) // whoever waits has come before
			if len(o.blocked) > 0 || o.full() {
				o.addBlocked(batch, fl)
				return Blocked
			}
		}
	}
	switch {
	case small:
		o.enqueueCopy(batch, fl)
	case batch.Options.overflow() == OverflowPriority:
		o.enqueueFront(batch)
	default:
		o.enqueueRef(batch)
	}
	o.scheduleFlush(fl)
	return Queued
}

// exceedsMaxFrame reports whether there is a frame above maxFrame among those in a part of a buffer.
func (o *Outbox) exceedsMaxFrame(b *body.Buffer, from, to int) bool {
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

// addBlocked has p wait for room.
func (o *Outbox) addBlocked(batch *Batch, fl *Flusher) {
	o.ensureStallTimer()
	batch.Buffer.Retain()
	o.blocked = append(o.blocked, blockedSend{*batch, fl.addWaiter()})
}

// dropOldest makes room by giving up the oldest pieces of owner that came on such
// terms. It reports whether there is some.
func (o *Outbox) dropOldest(sender any, out *completions) bool {
	if o.queue == nil {
		return false
	}
	hasRoom := !o.full()
	o.weight -= o.queue.remove(EventDropped, out, func(s *segment) bool {
		if hasRoom || s.options.overflow() != OverflowDropOldest || s.options.Sender != sender {
			return false
		}
		hasRoom = true // one for one: segments are few, and may be of any size
		return true
	})
	return !o.full()
}

// scheduleFlush sees to it that there is a flusher, if there may be one.
func (o *Outbox) scheduleFlush(fl *Flusher) {
	if !o.flushing && !o.retransmit.writeBlocked() && o.queue != nil {
		o.flushing = true
		fl.toFlush = append(fl.toFlush, o)
	}
}

// enqueueCopy copies p behind what is queued. Without memory for a further block, p
// is held by reference after all.
func (o *Outbox) enqueueCopy(batch *Batch, fl *Flusher) {
	if o.queue != nil && o.queue.appendCopy(batch) {
		o.weight += batch.To - batch.From
		return
	}
	if fl.spareBlock == nil {
		o.enqueueRef(batch)
		return
	}
	block := fl.spareBlock
	fl.spareBlock = nil
	o.push(&segment{
		buffer: block, to: copy(block.Bytes(), batch.Buffer.Bytes()[batch.From:batch.To]),
		frames: batch.Frames, deliveries: batch.Deliveries, isBlock: true, reliable: batch.Reliable,
	})
	o.weight += batch.To - batch.From
}

// full reports whether senders have to wait: for bytes, or because so many pieces
// are queued that their bookkeeping would be what takes the memory.
func (o *Outbox) full() bool {
	return o.weight >= o.base.config.MaxOutboxBytes ||
		o.queue != nil && len(o.queue.segments)-o.queue.head >= maxSegments
}

// enqueueRef queues p by reference.
func (o *Outbox) enqueueRef(batch *Batch) {
	batch.Buffer.Retain()
	s := segmentOf(batch)
	o.push(&s)
	o.weight += s.weight()
}

// enqueueFront queues p by reference before what is queued, and sees to it that it is written
// although the peer must acknowledge something before the rest is.
func (o *Outbox) enqueueFront(batch *Batch) {
	batch.Buffer.Retain()
	s := segmentOf(batch)
	o.ensureQueue()
	o.queue.pushPriority(&s)
	o.weight += s.weight()
	if o.retransmit != nil {
		o.retransmit.windowBlocked = false // the flusher finds out again
	}
}

func segmentOf(batch *Batch) segment {
	return segment{
		buffer: batch.Buffer, from: batch.From, to: batch.To, frames: batch.Frames, deliveries: batch.Deliveries,
		reliable: batch.Reliable, options: batch.Options, receiver: int16(batch.Receiver), first: int32(batch.First),
	}
}

func (o *Outbox) push(s *segment) {
	o.ensureQueue()
	o.queue.push(s)
}

// ensureQueue makes sure that there is a queue.
func (o *Outbox) ensureQueue() {
	if o.queue == nil {
		o.queue = newQueue(o)
	}
}

// unblockSends queues parked pieces for as long as there is room.
func (o *Outbox) unblockSends(out *completions) {
	n := 0
	for n < len(o.blocked) && !o.full() {
		s := segmentOf(&o.blocked[n].batch)
		switch {
		case s.expires() && s.expired(time.Now().UnixNano()):
			out.discard(&s, EventExpired)
		default:
			out.events = s.appendEvent(out.events, EventQueued, s.frames)
			o.push(&s)
			o.weight += s.weight()
		}
		out.waiters = append(out.waiters, o.blocked[n].waiter)
		n++
	}
	if n > 0 {
		remaining := copy(o.blocked, o.blocked[n:])
		clear(o.blocked[remaining:])
		o.blocked = o.blocked[:remaining]
		if remaining == 0 {
			o.blocked = nil
		}
	}
}
