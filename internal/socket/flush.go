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
		n, err := o.write(q)
		o.completeWrite(q, n, false)
		if err != nil {
			o.fail(err) // prepareWrite sees that the outbox is closed, and cleans up
		}
	}
}

// maxDirect is the maximum number of queued bytes that flushDirect writes. Above it, the help
// of another processor is worth the cost of waking its goroutine (docs/decisions/0004).
const maxDirect = 16 << 10

// flushDirect is flush for a caller that must not wait: it writes once. It reports whether no
// work is left; otherwise the outbox still needs a flush goroutine.
func (o *Outbox) flushDirect() bool {
	if o.base.raw == nil || !o.coalesceDelayPassed() {
		return false
	}
	q := o.prepareWrite()
	if q == nil {
		return true
	}
	if q.vector.size() > maxDirect {
		return false
	}
	q.direct = true
	n, err := o.write(q)
	q.direct = false
	o.completeWrite(q, n, false)
	if err != nil {
		o.fail(err)
	}
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
		if o.base.raw != nil {
			q.buildVector(limit)
		} else if o.base.nonblock != nil {
			q.buildChunks(limit, corkPlainSize)
		} else {
			q.buildChunks(limit, minProgressBytes)
		}
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

// write waits until the connection accepts data and writes once. It can return without having
// written any byte: in flushDirect, because it does not wait; otherwise, because it has waited
// and frames can have expired meanwhile.
func (o *Outbox) write(q *queue) (int, error) {
	q.n, q.err, q.stale, q.unconfirmed = 0, nil, false, 0
	if o.base.raw == nil {
		return o.writeChunks(q)
	}
	if err := o.base.raw.Write(q.tryWriteFn); err != nil {
		return 0, err
	}
	return q.n, q.err
}

// writeChunks is write for a connection without vectored writes. Below TLS it waits for room
// before it encrypts. A peer that accepts no data thus holds no buffer, and frames that can
// expire can still be dropped.
func (o *Outbox) writeChunks(q *queue) (int, error) {
	chunks := q.chunks
	defer q.releaseChunks(chunks)
	if o.base.nonblock == nil {
		p := q.nextChunk(minProgressBytes)
		q.unconfirmed = len(p)
		return o.base.nc.Write(p)
	}
	if err := o.base.nonblock.raw.Write(q.tryWriteFn); err != nil || q.stale {
		return 0, err
	}
	p := q.nextChunk(maxRecordSize)
	q.unconfirmed = len(p)
	if len(q.chunks) == 0 {
		return o.base.nc.Write(p)
	}
	if q.cork == nil {
		q.cork = newCork()
	}
	if !q.cork.acquire(o.base.config.WriteAccount, o.base.handler.Account()) {
		return o.base.nc.Write(p)
	}
	defer q.cork.release()
	err := o.encrypt(q, p)
	q.releaseChunks(chunks) // a peer that accepts no more data must hold none of this memory
	return o.writeRecords(q, err)
}

// encrypt turns the gathered chunks, of which p is the first, into records. The records stay
// in the cork.
func (o *Outbox) encrypt(q *queue, p []byte) error {
	o.base.nonblock.setCork(q.cork)
	for {
		if _, err := o.base.nc.Write(p); err != nil {
			return err
		}
		q.cork.addRecord(len(p))
		if len(q.chunks) == 0 {
			return nil
		}
		p = q.nextChunk(maxRecordSize)
		q.unconfirmed += len(p)
	}
}

// writeRecords writes the records of the cork together, because crypto/tls makes one system
// call per record (docs/decisions/0015). When the connection accepts them in parts, each part
// but the last is completed here, as without TLS; the size of the last part is returned. err
// is the error that ended the encryption, if any.
func (o *Outbox) writeRecords(q *queue, err error) (int, error) {
	for {
		n, more, uncorkErr := o.base.nonblock.uncork()
		if err == nil {
			err = uncorkErr
		}
		if !more {
			return n, err
		}
		if n > 0 {
			o.completeWrite(q, n, true)
		}
	}
}

// tryWrite writes without waiting. The runtime calls it when the socket can be writable. Below
// TLS it only checks whether the socket is writable.
func (q *queue) tryWrite(fd uintptr) bool {
	if q.stale {
		return true
	}
	var again bool
	if q.outbox.base.nonblock != nil {
		again = !writableRaw(fd)
	} else {
		q.n, again, q.err = writeRaw(fd, q.vector)
	}
	if again && !q.direct {
		q.stale = q.unpinIfExpiring()
	}
	return !again || q.direct
}

// unpinIfExpiring is called before the flush goroutine waits for the peer. If frames can
// expire during the wait, it gives up the gathered segments, which lets them be dropped. It
// reports whether it has done this.
func (q *queue) unpinIfExpiring() bool {
	q.outbox.mu.Lock()
	defer q.outbox.mu.Unlock()
	if q.hasExpiring {
		q.writing = 0
	}
	return q.hasExpiring
}

// completeWrite removes n written bytes from the queue and queues blocked sends that now have
// room. more says that the rest of the gathered segments is still being written.
func (o *Outbox) completeWrite(q *queue, n int, more bool) {
	o.mu.Lock()
	q.unconfirmed = max(0, q.unconfirmed-n)
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
