// Package outbox holds what waits to be written to one connection. An Outbox queues frames, is
// bounded in bytes, and starts a goroutine that writes them. It keeps reliable frames until the
// peer has acknowledged them, drops frames by their overflow policy and when they expire, and
// ends a connection whose peer accepts no data while senders wait.
//
// On the path of a message, the package comes behind the choice of the receivers: each of them
// has an Outbox, to which a Flusher offers the message. The package knows where a frame begins
// and ends, and nothing else about it. It knows a connection as a Conn, and does not read.
package outbox

import (
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// ErrStalled means that the peer has accepted no data while senders were waiting.
var ErrStalled = errors.New("stalled: peer accepts no data")

// Config holds the settings of an Outbox.
type Config struct {
	// MaxBytes is the number of queued bytes at which the outbox is full. A batch offered below
	// this limit is queued whole, which means that the outbox can exceed the limit by one batch.
	MaxBytes int

	// StallTimeout is the maximum time in which a peer that others wait for accepts neither one
	// whole frame nor MinProgress bytes. Over TLS, bytes count as accepted in whole records of at
	// most 16 KiB, because the peer cannot read less. 0 disables the limit; the caller must then
	// limit such waits.
	StallTimeout time.Duration

	// CoalesceDelay is the minimum time for which the outbox must have been empty before
	// Flusher.Flush writes a small batch directly, without a flush goroutine. A caller that
	// offers large batches needs no delay. A caller that offers message by message would
	// otherwise write each message in its own system call.
	CoalesceDelay time.Duration
}

// Conn is the connection of an Outbox. One goroutine at a time calls Write. The other methods
// must not block.
type Conn interface {
	// Write writes the bytes of v: as many as the connection accepts at once, which n counts. If
	// it accepts none, Write waits if wait is set, and otherwise returns 0. Without any byte in v,
	// Write waits until the connection accepts bytes.
	//
	// pending counts the bytes behind the first n that the connection holds in another form: they
	// are not written again. Until pending is 0, the Outbox calls Write without a vector, which
	// writes them. After an error, the peer can have received pending bytes.
	Write(v [][]byte, wait bool) (n, pending int, err error)

	// OnWritten is called after each write, by the goroutine that writes, with the counts of what
	// the write has finished.
	OnWritten(Counts)

	// OnLost is called when the outbox is closed, at most twice, with the counts of the frames
	// that were still queued or blocked.
	OnLost(Counts)

	// OnWriteError is called once, when a write has failed or the peer has stalled. The
	// connection should then be closed. An outbox with EnableAcks that has not stalled is
	// detached already.
	OnWriteError(error)
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
	mu sync.Mutex

	// Guarded by mu. Each Offer uses these fields and mu. They are 32 bytes, which lie in one cache
	// line wherever the allocator puts the connection.
	queue    *activeQueue // nil while empty
	waiting  *waiting     // nil: no goroutine waits
	copied   int32        // bytes that were copied to queue and are not in queue.weight; see weight
	flushing bool         // the flush goroutine runs, or a Flusher writes or will start it
	closed   bool
	sealed   bool // a batch with Options.Last was queued or blocked
	moved    bool // retransmit.movedTo is not nil

	// Each Offer reads these fields, which seldom change: in the next 32 bytes.
	conn     Conn    // static after Init
	config   *Config // static after Init
	maxFrame int32   // see SetMaxFrame; guarded by mu
	maxWrite int32   // see Init; static after it

	// Guarded by mu.
	retransmit *retransmitQueue // nil: written frames are not kept
	sent       int64            // bytes written
	drainCount uint32           // how often the queue became empty

	// Owned by the goroutine that writes: the flush goroutine, or Flusher.Flush before it.
	idleSince int64 // when the queue became empty, in ns since 1970; see Config.CoalesceDelay
}

// Init prepares an Outbox for use. maxWrite is the maximum number of bytes that one call of
// Conn.Write takes. 0: any number, and Write never waits if it must not; only then does
// Flusher.Flush write directly.
func (o *Outbox) Init(conn Conn, config *Config, maxWrite int) {
	o.conn, o.config, o.maxWrite = conn, config, int32(maxWrite)
}

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
		o.queue.remove(EventExpired, &out, matches)
		if o.retransmit != nil && o.retransmit.skipSupported {
			o.queue.replaceWithSkips(&out, matches)
		}
		stillQueued = slices.ContainsFunc(o.queue.segments[o.queue.head:], func(s segment) bool { return s.options == options })
	}
	if o.retransmit != nil && o.retransmit.detached {
		o.retransmit.reportExpiredUnacked(&out, matches)
	}
	if o.waiting.hasBlocked() {
		o.waiting.retract(options, &out)
		o.unblockSends(&out)
		o.releaseWaiting()
	}
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
	p := Progress{Sent: o.sent, DrainCount: o.drainCount, Busy: o.queue != nil}
	if o.queue != nil {
		p.Queued = o.weight()
	}
	return p
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

// cancelBlocked removes the blocked send with the given waiter. It returns false if the send
// is already queued, sent or lost.
func (o *Outbox) cancelBlocked(w *Waiter) bool {
	o = o.lock()
	defer o.mu.Unlock()
	if !o.waiting.hasBlocked() || !o.waiting.cancel(w) {
		return false
	}
	o.releaseWaiting()
	return true
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
		if !o.moved {
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
	if batch.Options != nil && batch.Options.Last {
		o.sealed = true
	}
	if o.waiting.hasBlocked() || o.full() {
		switch overflow := batch.Options.overflow(); {
		case overflow == OverflowBlock:
			o.addBlocked(batch, fl)
			return Blocked
		case overflow == OverflowForce, overflow == OverflowPriority:
		case overflow == OverflowReject || !o.dropOldest(batch.Options.Sender, &fl.completions):
			return Full
		default:
			o.unblockSends(&fl.completions) // blocked sends have come before this batch
			if o.waiting.hasBlocked() || o.full() {
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
	batch.Buffer.Retain()
	w := o.beginWait()
	w.blocked = append(w.blocked, blockedSend{*batch, fl.addWaiter()})
}

// dropOldest drops the oldest segments of sender with OverflowDropOldest until the queue has
// room. It reports whether the queue has room.
func (o *Outbox) dropOldest(sender uint64, out *completions) bool {
	if o.queue == nil {
		return false
	}
	hasRoom := !o.full()
	o.queue.remove(EventDropped, out, func(s *segment) bool {
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
		if o.copied += int32(batch.To - batch.From); o.copied > maxCopied {
			o.foldCopied()
		}
		return
	}
	if fl.spareBlock == nil {
		o.enqueueRef(batch)
		return
	}
	block := fl.spareBlock
	fl.spareBlock = nil
	o.ensureQueue().push(&segment{
		buffer: block, to: copy(block.Bytes(), batch.Buffer.Bytes()[batch.From:batch.To]),
		frames: batch.Frames, messages: batch.Messages, isBlock: true, reliable: batch.Reliable,
	})
}

// full reports whether senders must wait: because too many bytes are queued, or so many
// segments that their bookkeeping would take the memory.
func (o *Outbox) full() bool {
	return o.queue != nil && (o.weight() >= o.config.MaxBytes || o.queue.length() >= maxSegments)
}

// maxCopied is the maximum value of Outbox.copied, in bytes.
const maxCopied = 1 << 20

// weight returns the number of bytes that are not written, with the cost of their bookkeeping. A
// copy of a small batch adds to copied, and not to queue.weight: that one lies in a cache line that
// the goroutine that writes uses as well, and each offer would take the line from its processor.
func (o *Outbox) weight() int { return o.queue.weight + int(o.copied) }

// foldCopied adds copied to queue.weight.
func (o *Outbox) foldCopied() {
	if o.queue != nil {
		o.queue.weight += int(o.copied)
	}
	o.copied = 0
}

// enqueueRef queues batch by reference.
func (o *Outbox) enqueueRef(batch *Batch) {
	batch.Buffer.Retain()
	s := segmentOf(batch)
	o.ensureQueue().push(&s)
}

// enqueueFront queues batch by reference at the front of the queue. The batch is written even
// if the rest of the queue is blocked by the window.
func (o *Outbox) enqueueFront(batch *Batch) {
	batch.Buffer.Retain()
	s := segmentOf(batch)
	o.ensureQueue().pushPriority(&s)
	if o.retransmit != nil {
		o.retransmit.windowBlocked = false // prepareWrite sets it again if the window is still full
	}
}

// ensureQueue returns the queue, and allocates it if there is none.
func (o *Outbox) ensureQueue() *activeQueue {
	if o.queue == nil {
		o.queue = newQueue(o)
	}
	return o.queue
}

// unblockSends queues blocked sends as long as there is room.
func (o *Outbox) unblockSends(out *completions) {
	if !o.waiting.hasBlocked() {
		return
	}
	blocked, n := o.waiting.blocked, 0
	for n < len(blocked) && !o.full() {
		s := segmentOf(&blocked[n].batch)
		switch {
		case s.expires() && s.expired(time.Now().UnixNano()):
			out.discard(&s, EventExpired)
		default:
			out.addEvent(&s, EventQueued, s.frames)
			o.ensureQueue().push(&s)
		}
		out.waiters = append(out.waiters, blocked[n].waiter)
		n++
	}
	if n > 0 {
		o.waiting.removeBlocked(n)
		o.releaseWaiting()
	}
}

// beginWait returns the state of the waiting goroutines, before another is added. It starts
// the stall timer for the first. A timer still running from an earlier wait continues:
// checkStall finds out that it is too early.
func (o *Outbox) beginWait() *waiting {
	w := o.ensureWaiting()
	if !w.forProgress() {
		o.restartStallTimer(w)
	}
	return w
}

func (o *Outbox) ensureWaiting() *waiting {
	if o.waiting == nil {
		o.waiting = new(waiting)
	}
	return o.waiting
}

// releaseWaiting releases the state of the waiting goroutines if there are none. While frames are
// queued, the next sender probably has to wait as well.
func (o *Outbox) releaseWaiting() {
	if o.waiting != nil && o.queue == nil && o.waiting.unused() {
		o.waiting = nil
	}
}
