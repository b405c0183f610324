package outbox

import (
	"errors"
	"sync"
	"time"
)

// activeQueue is the queue of a non-empty outbox, with the scratch space of the goroutine that
// writes. The segments are guarded by the lock of the outbox. While Outbox.flushing is set, no
// other goroutine frees the queue.
type activeQueue struct {
	queue
	outbox      *Outbox
	flushFn     func() // flush of the outbox, bound once so that no goroutine needs a new closure
	completions completions
}

var activeQueues sync.Pool // of *activeQueue

// newQueue returns an empty queue for an outbox.
func newQueue(o *Outbox) *activeQueue {
	q, _ := activeQueues.Get().(*activeQueue)
	if q == nil {
		// Small at first, because thousands of receivers can accept no data. They grow with use.
		q = &activeQueue{queue: queue{segments: make([]segment, 0, 4), vector: make([][]byte, 0, 4)}}
		q.flushFn = func() { q.outbox.flush() }
	}
	q.outbox = o
	return q
}

// free returns an empty queue to the pool, unless a rare flood of tiny batches has made it
// large.
func (q *activeQueue) free() {
	if cap(q.segments) > maxSegments {
		return
	}
	q.reset()
	q.outbox = nil
	activeQueues.Put(q)
}

// flush writes until the queue is empty or writing must stop. It is the body of the flush
// goroutine. Only the goroutine that has set flushing writes: the flush goroutine, or
// flushDirect before it. Outbox.Wait waits for the end of flush.
func (o *Outbox) flush() {
	if o.queue.partsLeft { // by flushDirect
		o.writeParts(o.queue)
	}
	for {
		q := o.prepareWrite()
		if q == nil {
			return
		}
		noRoom := o.write(q, !q.mayExpire)
		o.writeParts(q)
		if noRoom { // after a failure, prepareWrite cleans up
			o.awaitRoom()
		}
	}
}

// maxDirect is the maximum number of queued bytes that flushDirect writes. Above it, the help
// of another processor is worth the cost of waking its goroutine (docs/decisions/0004).
const maxDirect = 16 << 10

// flushDirect is flush for a caller that must not wait: it writes once. It reports whether no
// work is left; otherwise the outbox still needs a flush goroutine.
func (o *Outbox) flushDirect() bool {
	if o.maxWrite > 0 || !o.coalesceDelayPassed() {
		return false
	}
	q := o.prepareWrite()
	if q == nil {
		return true
	}
	if q.vectorSize > maxDirect {
		return false
	}
	o.write(q, false)
	if q.partsLeft { // writing them can wait
		return false
	}
	return o.prepareWrite() == nil
}

// coalesceDelayPassed reports whether the outbox was empty for CoalesceDelay before the
// current frames were offered. It is called by the goroutine that writes.
func (o *Outbox) coalesceDelayPassed() bool {
	minIdle := o.config.CoalesceDelay
	return minIdle == 0 || time.Now().UnixNano()-o.idleSince >= int64(minIdle)
}

// prepareWrite prepares the next write. When there is none, it ends the flushing and returns
// nil.
func (o *Outbox) prepareWrite() *activeQueue {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropExpired()
	q, rq := o.queue, o.retransmit
	limit := maxVector
	if rq != nil && rq.windowBytes >= rq.window {
		limit = q.promotePriority()
		rq.windowBlocked = limit == 0 && !q.empty()
	}
	switch {
	case o.closed:
		o.dropAllUnlocking()
	case rq.writeBlocked():
		o.flushing = false
		if rq.detached {
			o.notifyIdle()
		}
		return nil
	case q.empty():
		o.queue, o.copied = nil, 0
		o.drainCount++
		q.free()
		o.releaseWaiting()
		if o.config.CoalesceDelay > 0 {
			o.idleSince = time.Now().UnixNano()
		}
	default:
		q.buildVector(limit, int(o.maxWrite))
		return q
	}
	o.flushing = false
	o.notifyIdle()
	return nil
}

// dropAllUnlocking drops all frames of a closed outbox, for the goroutine that writes. It is
// called with mu held, and releases mu while it reports the dropped frames.
func (o *Outbox) dropAllUnlocking() {
	var out completions
	o.dropAll(&out)
	o.mu.Unlock()
	o.reportDropped(out.dropped)
	out.run()
	o.mu.Lock()
}

// dropExpired drops expired frames, for the goroutine that writes. It is called with mu held,
// and releases mu while it reports them.
func (o *Outbox) dropExpired() {
	q := o.queue
	q.writing = 0 // segments gathered for a write that flushDirect did not make are not being written
	for q.hasExpiring {
		now := time.Now().UnixNano()
		expired := func(s *segment) bool { return s.expired(now) }
		q.remove(EventExpired, &q.completions, expired)
		if o.retransmit != nil && o.retransmit.skipSupported {
			q.replaceWithSkips(&q.completions, expired)
		}
		o.unblockSends(&q.completions)
		if len(q.completions.buffers) == 0 {
			q.stamp(now)
			return
		}
		o.mu.Unlock()
		q.completions.run()
		o.mu.Lock() // more frames can have been offered or have expired meanwhile
	}
}

// write writes once. If the connection accepts no data, write waits if wait is set, and
// otherwise returns noRoom. writeParts must write what the connection then holds as pending.
func (o *Outbox) write(q *activeQueue, wait bool) (noRoom bool) {
	n, pending, err := o.conn.Write(q.vector, wait)
	o.completePart(q, n, pending, err)
	return n == 0 && pending == 0 && err == nil
}

// writeParts writes what the connection holds as pending. Each part that the connection accepts
// is completed by itself.
func (o *Outbox) writeParts(q *activeQueue) {
	for q.partsLeft {
		n, pending, err := o.conn.Write(nil, true)
		o.completePart(q, n, pending, err)
	}
}

// completePart completes the result of one call of Conn.Write.
func (o *Outbox) completePart(q *activeQueue, n, pending int, err error) {
	q.unconfirmed, q.partsLeft = pending, pending > 0 && err == nil
	if q.partsLeft {
		clear(q.vector) // a peer that accepts no more data must hold none of this memory
	}
	if n > 0 || !q.partsLeft {
		o.completeWrite(q, n)
	}
	if err != nil {
		o.fail(err)
	}
}

// awaitRoom waits until the connection accepts data. Meanwhile no frame is being written, and
// frames can expire.
func (o *Outbox) awaitRoom() {
	if _, _, err := o.conn.Write(nil, true); err != nil {
		o.fail(err)
	}
}

// completeWrite removes n written bytes from the queue and queues blocked sends that now have
// room.
func (o *Outbox) completeWrite(q *activeQueue, n int) {
	o.mu.Lock()
	written := q.consume(n, o.retransmit, &q.completions)
	q.writing = 0
	if q.partsLeft {
		q.writing = q.spannedBy(q.unconfirmed)
	}
	o.sent += int64(written.Bytes)
	o.waiting.recordProgress(written)
	o.unblockSends(&q.completions)
	if o.retransmit != nil {
		o.retransmit.processAcks(&q.completions)
	}
	o.mu.Unlock()
	q.completions.run()
	o.conn.OnWritten(written)
}

// fail ends the writing and reports the error to the handler. It closes the outbox, or
// detaches it if its frames can still reach the peer on another connection.
func (o *Outbox) fail(err error) {
	first, detached := false, false
	if !errors.Is(err, ErrStalled) {
		first, detached = o.detach()
	}
	if first || !detached && o.closeOnce() {
		o.conn.OnWriteError(err)
	}
}

// Detach ends the writing and keeps all frames: queued frames, and frames offered later, wait
// for Move. It returns false if the outbox has no EnableAcks or is closed. The caller must
// then close the connection without closing the outbox.
func (o *Outbox) Detach() bool {
	_, ok := o.detach()
	return ok
}

// detach is Detach. first says that the outbox was not detached before.
func (o *Outbox) detach() (first, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.retransmit == nil {
		return false, false
	}
	first = !o.retransmit.detached
	o.retransmit.detached = true
	if !o.flushing {
		o.notifyIdle()
	}
	return first, true
}

// Close closes the outbox. Queued frames are lost.
func (o *Outbox) Close() { o.closeOnce() }

// closeOnce closes the outbox and reports whether it was open. Blocked senders continue. The
// goroutine that writes drops the queue, because it can be writing from it; without such a
// goroutine, closeOnce drops the queue.
func (o *Outbox) closeOnce() bool {
	o.mu.Lock()
	if o.closed || o.moved {
		o.mu.Unlock()
		return false
	}
	o.closed = true
	var blocked []blockedSend
	if o.waiting != nil {
		blocked, o.waiting.blocked = o.waiting.blocked, nil
		o.waiting.stopTimer()
		o.releaseWaiting()
	}
	var out completions
	if !o.flushing {
		o.dropAll(&out)
		o.notifyIdle()
	}
	o.mu.Unlock()

	for _, send := range blocked {
		s := segmentOf(&send.batch)
		out.discard(&s, EventLost)
		out.waiters = append(out.waiters, send.waiter)
	}
	o.reportDropped(out.dropped)
	out.run()
	return true
}

// dropAll drops all frames of a closed outbox. It is called with mu held.
func (o *Outbox) dropAll(out *completions) {
	if o.retransmit != nil {
		o.retransmit.dropAll(out)
	}
	q := o.queue
	if q == nil {
		return
	}
	o.queue, o.copied = nil, 0
	q.removeAll(out)
	q.free()
}

func (o *Outbox) reportDropped(dropped Counts) {
	if dropped.Frames > 0 {
		o.conn.OnLost(dropped)
	}
}

// Drain waits until all queued frames are written and reports whether they were. It gives up
// when the outbox is closed, for example because of a stalled peer, or when stop is closed.
func (o *Outbox) Drain(stop <-chan struct{}) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.beginWait().callers++
	defer o.endWait()
	for stopped := false; o.hasWork() && !o.closed && !stopped; {
		idle := o.idleChan()
		o.mu.Unlock()
		select {
		case <-idle: // more frames can have been offered since
		case <-stop:
			stopped = true
		}
		o.mu.Lock()
	}
	return !o.closed && o.queue == nil
}

// StartStallTimer says that the caller waits for the peer to accept queued frames. If the peer
// stalls meanwhile, the outbox fails with ErrStalled.
func (o *Outbox) StartStallTimer() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.beginWait().callers++
}

// StopStallTimer ends the wait of one call of StartStallTimer.
func (o *Outbox) StopStallTimer() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endWait()
}

// Wait waits until no goroutine writes any more. The outbox must be closed, or it must be
// detached and its connection closed.
func (o *Outbox) Wait() {
	o.mu.Lock()
	if !o.flushing {
		o.mu.Unlock()
		return
	}
	idle := o.idleChan()
	o.mu.Unlock()
	<-idle
}

// checkStall runs when the stall timeout can be over. While no goroutine waits, the receiver
// has unlimited time, and the timer ends.
func (o *Outbox) checkStall() {
	o.mu.Lock()
	w := o.waiting
	if o.closed || !w.forProgress() {
		w.stopTimer()
		o.releaseWaiting()
		o.mu.Unlock()
		return
	}
	if remaining := time.Until(w.progressAt.Add(o.config.StallTimeout)); remaining > 0 {
		w.timer = time.AfterFunc(remaining, o.checkStall)
		o.mu.Unlock()
		return
	}
	o.mu.Unlock()
	o.fail(ErrStalled)
}

// The following are called with mu held.

// restartStallTimer starts the stall timer, or restarts its time.
func (o *Outbox) restartStallTimer(w *waiting) {
	if o.config.StallTimeout <= 0 {
		return
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(o.config.StallTimeout, o.checkStall)
	}
	w.progressAt, w.bytesSince = time.Now(), 0
}

// endWait ends the wait of one caller.
func (o *Outbox) endWait() {
	o.waiting.callers--
	o.releaseWaiting()
}

// hasWork reports whether frames are left that can be written.
func (o *Outbox) hasWork() bool {
	return o.flushing || o.queue != nil && (o.retransmit == nil || !o.retransmit.detached)
}

// notifyIdle wakes the goroutines that wait for the end of the flushing.
func (o *Outbox) notifyIdle() {
	if o.waiting != nil && o.waiting.idle != nil {
		close(o.waiting.idle)
		o.waiting.idle = nil
		o.releaseWaiting()
	}
}

func (o *Outbox) idleChan() <-chan struct{} {
	w := o.ensureWaiting()
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	return w.idle
}
