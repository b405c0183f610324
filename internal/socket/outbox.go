package socket

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// Batch is a group of consecutive whole frames in a buffer. It holds no reference to the
// buffer: the caller keeps the buffer alive while the batch is offered.
type Batch struct {
	Buffer   *body.Buffer
	From, To int
	Frames   int

	// Messages says that each of the frames carries a message. Otherwise none does. The outbox
	// does not look into frames.
	Messages bool

	// Reliable says that the frames are numbered, and are kept until the peer has acknowledged
	// them, if the outbox has EnableAcks. It holds for all frames of a batch.
	Reliable bool

	Options  *Options // nil: none
	Receiver int      // index of the receiver, passed to Options.Events
	First    int      // index of the first frame, as reported to Options.Events
}

// Outcome is the result of Offer.
type Outcome int

// The outcomes of Offer.
const (
	Queued         Outcome = iota // the batch is queued
	Blocked                       // the queue is full: the batch waits, and Flusher.Wait waits for it
	Closed                        // the outbox is closed
	Full                          // the queue is full, and the batch was rejected
	TooLarge                      // a message is in a frame above SetMaxFrame: no frame was queued
	AlreadyExpired                // the batch expired before it was offered
)

// blockedSend is a batch that waits for room in an outbox.
type blockedSend struct {
	batch  Batch
	waiter *waiter
}

// Outbox is the send queue of a connection, bounded in bytes. Small batches are copied to the
// tail of the queue, large batches are held by reference, and many batches are written in one
// system call.
//
// An empty outbox has no goroutine and no memory. The offer that makes an outbox non-empty
// leads to a flush goroutine, which ends when the queue is empty or the connection is closed.
// A small batch for a single receiver is written without a flush goroutine (Flusher.Flush).
// All methods can be called concurrently.
type Outbox struct {
	// Static after init.
	base *base

	// Owned by the goroutine that writes: the flush goroutine, or Flusher.Flush before it.
	idleSince int64 // when the queue became empty, in ns since 1970; see Config.CoalesceDelay

	mu sync.Mutex

	// Guarded by mu.
	retransmit *retransmitQueue // nil: written frames are not kept
	queue      *queue           // nil while empty
	weight     int              // bytes queued, with the cost of their bookkeeping
	blocked    []blockedSend    // first come, first served
	flushing   bool             // the flush goroutine runs, or a Flusher writes or will start it
	closed     bool
	sealed     bool          // a batch with Options.Last was queued or blocked
	waiters    int32         // number of callers of Drain or StartStallTimer that wait for progress
	drainCount uint32        // how often the queue became empty
	maxFrame   int32         // see SetMaxFrame
	idle       chan struct{} // closed when flushing ends; nil: no goroutine waits for it
	sent       int64         // bytes written
	stallTimer *stallTimer   // nil: not running
}

func (o *Outbox) init(b *base) { o.base = b }

// Offer queues the frames of batch. When the queue is full, it applies the overflow policy of
// the batch: the default is to block the batch. Offer itself never waits: fl collects the work
// that is left to the caller, which must call Flush after a group of offers, and Wait if any
// outcome was Blocked.
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

// SetMaxFrame limits the size of a frame that carries a message, in bytes on the wire. 0 means
// no limit. Frames that are already queued stay; frames that Move hands over are checked.
func (o *Outbox) SetMaxFrame(bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.maxFrame = int32(min(bytes, math.MaxInt32))
}

// MaxFrame returns the value set by SetMaxFrame, after a Move that of the new outbox.
func (o *Outbox) MaxFrame() int {
	o = o.lock()
	defer o.mu.Unlock()
	return int(o.maxFrame)
}

// Retract removes the batches offered with these options, which must have expired, unless they
// are being written. Frames written on a connection that is lost are reported as EventUnacked,
// unless the peer has read them. stillQueued says that some frames are still in the queue and
// can still be written. Otherwise, all events of frames offered before have been reported, or
// another goroutine is about to report them.
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

// Progress is a snapshot of the state of an outbox. The hub's reclaimer compares snapshots to
// tell a slow receiver from a busy receiver.
type Progress struct {
	Sent       int64  // bytes written so far
	DrainCount uint32 // how often the queue became empty
	Busy       bool   // frames are queued
	Queued     int    // bytes queued, with the cost of their bookkeeping
}

// Progress returns a snapshot of the state of the outbox.
func (o *Outbox) Progress() Progress {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Progress{Sent: o.sent, DrainCount: o.drainCount, Busy: o.queue != nil, Queued: o.weight}
}

// Accounts appends the accounts that are charged for queued frames. An account can occur more
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

// cancelBlocked removes the blocked send with the given waiter. It returns false if the send
// is already queued, sent or lost.
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

// lock locks the outbox, or the outbox that its contents have moved to, and returns the locked
// outbox.
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

// offer is Offer with mu held.
func (o *Outbox) offer(batch *Batch, small bool, fl *Flusher) Outcome {
	if o.closed || o.sealed {
		return Closed
	}
	if batch.Messages && o.exceedsMaxFrame(batch.Buffer, batch.From, batch.To) {
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
			o.unblockSends(&fl.completions) // blocked sends have come before this batch
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

// exceedsMaxFrame reports whether a frame in the given part of b is larger than maxFrame.
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

// addBlocked adds batch to the blocked sends.
func (o *Outbox) addBlocked(batch *Batch, fl *Flusher) {
	o.ensureStallTimer()
	batch.Buffer.Retain()
	o.blocked = append(o.blocked, blockedSend{*batch, fl.addWaiter()})
}

// dropOldest drops the oldest segments of sender with OverflowDropOldest until the queue has
// room. It reports whether the queue has room.
func (o *Outbox) dropOldest(sender any, out *completions) bool {
	if o.queue == nil {
		return false
	}
	hasRoom := !o.full()
	o.weight -= o.queue.remove(EventDropped, out, func(s *segment) bool {
		if hasRoom || s.options.overflow() != OverflowDropOldest || s.options.Sender != sender {
			return false
		}
		hasRoom = true // drop one segment per offer: segments are few and differ in size
		return true
	})
	return !o.full()
}

// scheduleFlush adds the outbox to the outboxes that fl must flush, if there are frames to
// write and no goroutine writes.
func (o *Outbox) scheduleFlush(fl *Flusher) {
	if !o.flushing && !o.retransmit.writeBlocked() && o.queue != nil {
		o.flushing = true
		fl.toFlush = append(fl.toFlush, o)
	}
}

// enqueueCopy copies batch behind the queued frames. If there is no memory for another block,
// the batch is queued by reference.
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
		frames: batch.Frames, messages: batch.Messages, isBlock: true, reliable: batch.Reliable,
	})
	o.weight += batch.To - batch.From
}

// full reports whether senders must wait: because too many bytes are queued, or so many
// segments that their bookkeeping would take the memory.
func (o *Outbox) full() bool {
	return o.weight >= o.base.config.MaxOutboxBytes ||
		o.queue != nil && len(o.queue.segments)-o.queue.head >= maxSegments
}

// enqueueRef queues batch by reference.
func (o *Outbox) enqueueRef(batch *Batch) {
	batch.Buffer.Retain()
	s := segmentOf(batch)
	o.push(&s)
	o.weight += s.weight()
}

// enqueueFront queues batch by reference at the front of the queue. The batch is written even
// if the rest of the queue is blocked by the window.
func (o *Outbox) enqueueFront(batch *Batch) {
	batch.Buffer.Retain()
	s := segmentOf(batch)
	o.ensureQueue()
	o.queue.pushPriority(&s)
	o.weight += s.weight()
	if o.retransmit != nil {
		o.retransmit.windowBlocked = false // prepareWrite sets it again if the window is still full
	}
}

func segmentOf(batch *Batch) segment {
	return segment{
		buffer: batch.Buffer, from: batch.From, to: batch.To, frames: batch.Frames, messages: batch.Messages,
		reliable: batch.Reliable, options: batch.Options, receiver: int16(batch.Receiver), first: int32(batch.First),
	}
}

func (o *Outbox) push(s *segment) {
	o.ensureQueue()
	o.queue.push(s)
}

// ensureQueue allocates the queue if there is none.
func (o *Outbox) ensureQueue() {
	if o.queue == nil {
		o.queue = newQueue(o)
	}
}

// unblockSends queues blocked sends as long as there is room.
func (o *Outbox) unblockSends(out *completions) {
	n := 0
	for n < len(o.blocked) && !o.full() {
		s := segmentOf(&o.blocked[n].batch)
		switch {
		case s.expires() && s.expired(time.Now().UnixNano()):
			out.discard(&s, EventExpired)
		default:
			out.addEvent(&s, EventQueued, s.frames)
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
