package socket

import (
	"errors"
	"time"
)

// flush writes until the queue is dry, or nothing may be written any more. Whoever
// has set flushing is the only one who writes: this goroutine, or flushDirect
// before it. Outbox.Wait waits for its end.
func (o *Outbox) flush() {
	for {
		q := o.prepareWrite()
		if q == nil {
			return
		}
		n, err := o.write(q)
		o.completeWrite(q, n, false)
		if err != nil {
			o.fail(err) // next sees that the outbox is closed, and cleans up
		}
	}
}

// maxDirect is how many queued bytes the one who offered them writes by itself.
// Above it, another processor's help is worth its waking (docs/decisions/0004).
const maxDirect = 16 << 10

// flushDirect is flush for one who must not wait: it writes once. It reports
// whether nothing is left to do; otherwise the outbox still wants its flusher.
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

// coalesceDelayPassed reports whether the outbox was dry for long enough before it was offered
// what is in it now. It belongs to the flusher.
func (o *Outbox) coalesceDelayPassed() bool {
	minIdle := o.base.config.CoalesceDelay
	return minIdle == 0 || time.Now().UnixNano()-o.idleSince >= int64(minIdle)
}

// prepareWrite prepares the next write. When there is none it ends the flusher and
// returns nil.
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

// dropAllUnlocking drops what is left of a closed outbox, for its flusher. It is called with
// mu held, which it gives up while it tells of that.
func (o *Outbox) dropAllUnlocking() {
	var out completions
	o.dropAll(&out)
	o.mu.Unlock()
	o.reportDropped(out.dropped)
	out.run()
	o.mu.Lock()
}

// dropExpired drops what it is no use to send any more, for the flusher. It is called
// with mu held, which it gives up while it tells of that.
func (o *Outbox) dropExpired() {
	q := o.queue
	q.writing = 0 // what was gathered and then left to another is not being written
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
		o.mu.Lock() // perhaps there is more now
	}
}

// write waits until the connection takes something and writes once. It may have written nothing:
// directly, because it does not wait; otherwise, because it has waited and something may have
// expired meanwhile.
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

// writeChunks is write where the connection takes no vector. Beneath TLS it waits for room before
// anything is encrypted, so that a peer that takes nothing holds no buffer, and what may expire can
// still be taken back.
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
	q.releaseChunks(chunks) // a peer that takes nothing more must hold none of it
	return o.writeRecords(q, err)
}

// encrypt makes records of what is gathered, of which p is the first. They wait in the cork.
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

// writeRecords writes them at once: crypto/tls makes a system call for each record
// (docs/decisions/0015). What the connection takes in parts counts part by part, as without TLS,
// but for the last part, which is returned. err is why not everything was encrypted.
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

// tryWrite is called by the runtime when there may be room. Beneath TLS it only looks.
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

// unpinIfExpiring is for a flusher that is about to wait. If something may expire until it writes, it gives
// up what it has gathered, so that it can be taken back. It reports whether it has.
func (q *queue) unpinIfExpiring() bool {
	q.outbox.mu.Lock()
	defer q.outbox.mu.Unlock()
	if q.hasExpiring {
		q.writing = 0
	}
	return q.hasExpiring
}

// completeWrite takes what has left off the queue and lets those in who waited for room. more says that the
// rest of what was gathered is still being written.
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

// fail ends the writing and tells the owner why: it closes the outbox, or detaches
// it if what it keeps may still reach the peer.
func (o *Outbox) fail(err error) {
	first, detached := false, false
	if !errors.Is(err, ErrStalled) {
		first, detached = o.detach()
	}
	if first || !detached && o.closeOnce() {
		o.base.handler.OnWriteError(err)
	}
}

// close closes the outbox. What is queued is lost.
func (o *Outbox) close() { o.closeOnce() }

// closeOnce closes the outbox and reports whether it was open. Those who wait for
// room go on. The flusher drops the queue, for it may be writing from it; without
// one, it is dropped here.
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

// dropAll drops what is left of a closed outbox. It is called with mu held.
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
	out.dropped.Bytes -= q.headSent // counted as sent already
	q.free()
}

func (o *Outbox) reportDropped(dropped Counts) {
	if dropped.Frames > 0 {
		o.base.handler.OnLost(dropped)
	}
}
