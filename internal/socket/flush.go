package socket

import (
	"errors"
	"time"
)

// flush writes until the queue is empty or writing must stop. It is the body of the flush
// goroutine. Only the goroutine that has set flushing writes: the flush goroutine, or
// flushDirect before it. Outbox.Wait waits for the end of flush.
func (o *Outbox) flush() {
	for {
		q := o.prepareWrite()
		if q == nil {
			return
		}
		if noRoom := o.write(q, !q.mayExpire); noRoom { // after a failure, prepareWrite cleans up
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
	if o.base.transport.MaxWrite() > 0 || !o.coalesceDelayPassed() {
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
	return o.prepareWrite() == nil
}

// coalesceDelayPassed reports whether the outbox was empty for CoalesceDelay before the
// current frames were offered. It is called by the goroutine that writes.
func (o *Outbox) coalesceDelayPassed() bool {
	minIdle := o.base.config.CoalesceDelay
	return minIdle == 0 || time.Now().UnixNano()-o.idleSince >= int64(minIdle)
}

// prepareWrite prepares the next write. When there is none, it ends the flushing and returns
// nil.
func (o *Outbox) prepareWrite() *queue {
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
		o.queue = nil
		o.drainCount++
		q.free()
		if o.base.config.CoalesceDelay > 0 {
			o.idleSince = time.Now().UnixNano()
		}
	default:
		q.buildVector(limit, o.base.transport.MaxWrite())
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
		o.weight -= q.remove(EventExpired, &q.completions, expired)
		if o.retransmit != nil && o.retransmit.skipSupported {
			o.weight -= q.replaceWithSkips(&q.completions, expired)
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
// otherwise returns noRoom. When the connection accepts encrypted data in parts, each part is
// completed by itself.
func (o *Outbox) write(q *queue, wait bool) (noRoom bool) {
	n, pending, err := o.base.transport.Write(q.vector, wait)
	for pending > 0 && err == nil {
		clear(q.vector) // a peer that accepts no more data must hold none of this memory
		if n > 0 {
			o.completeWrite(q, n, true)
		}
		n, pending, err = o.base.transport.Write(nil, true)
	}
	q.unconfirmed = pending
	o.completeWrite(q, n, false)
	if err != nil {
		o.fail(err)
	}
	return n == 0 && err == nil
}

// awaitRoom waits until the connection accepts data. Meanwhile no frame is being written, and
// frames can expire.
func (o *Outbox) awaitRoom() {
	if _, _, err := o.base.transport.Write(nil, true); err != nil {
		o.fail(err)
	}
}

// completeWrite removes n written bytes from the queue and queues blocked sends that now have
// room. more says that the rest of the gathered segments is still being written.
func (o *Outbox) completeWrite(q *queue, n int, more bool) {
	o.mu.Lock()
	written, weight := q.consume(n, o.retransmit)
	if !more {
		q.writing = 0
	}
	o.weight -= weight
	o.recordProgress(written)
	if len(o.blocked) > 0 {
		o.unblockSends(&q.completions)
	}
	if o.retransmit != nil {
		o.retransmit.processAcks(&q.completions)
	}
	o.mu.Unlock()
	q.completions.run()
	o.base.handler.OnWritten(written)
}

// fail ends the writing and reports the error to the handler. It closes the outbox, or
// detaches it if its frames can still reach the peer on another connection.
func (o *Outbox) fail(err error) {
	first, detached := false, false
	if !errors.Is(err, ErrStalled) {
		first, detached = o.detach()
	}
	if first || !detached && o.closeOnce() {
		o.base.handler.OnWriteError(err)
	}
}

// close closes the outbox. Queued frames are lost.
func (o *Outbox) close() { o.closeOnce() }

// closeOnce closes the outbox and reports whether it was open. Blocked senders continue. The
// goroutine that writes drops the queue, because it can be writing from it; without such a
// goroutine, closeOnce drops the queue.
func (o *Outbox) closeOnce() bool {
	o.mu.Lock()
	if o.closed || o.retransmit != nil && o.retransmit.movedTo != nil {
		o.mu.Unlock()
		return false
	}
	o.closed = true
	blocked := o.blocked
	o.blocked = nil
	if o.stallTimer != nil {
		o.stallTimer.timer.Stop()
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
	o.queue = nil
	for i := q.head; i < len(q.segments); i++ {
		out.discard(&q.segments[i], EventLost)
		q.segments[i] = segment{}
	}
	out.dropped.Bytes -= q.headSent // already counted as written
	q.free()
}

func (o *Outbox) reportDropped(dropped Counts) {
	if dropped.Frames > 0 {
		o.base.handler.OnLost(dropped)
	}
}
