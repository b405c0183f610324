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
		q := o.next()
		if q == nil {
			return
		}
		n, err := o.write(q)
		o.wrote(q, n, false)
		if err != nil {
			o.fail(err) // next sees that the outbox is closed, and cleans up
		}
	}
}

// directMost is how many queued bytes the one who offered them writes by itself.
// Above it, another processor's help is worth its waking (docs/decisions/0004).
const directMost = 16 << 10

// flushDirect is flush for one who must not wait: it writes once. It reports
// whether nothing is left to do; otherwise the outbox still wants its flusher.
func (o *Outbox) flushDirect() bool {
	if o.base.raw == nil || !o.quiet() {
		return false
	}
	q := o.next()
	if q == nil {
		return true
	}
	if q.vector.size() > directMost {
		return false
	}
	q.direct = true
	n, err := o.write(q)
	q.direct = false
	o.wrote(q, n, false)
	if err != nil {
		o.fail(err)
	}
	return o.next() == nil
}

// quiet reports whether the outbox was dry for long enough before it was offered
// what is in it now. It belongs to the flusher.
func (o *Outbox) quiet() bool {
	least := o.base.config.Quiet
	return least == 0 || time.Now().UnixNano()-o.dryAt >= int64(least)
}

// next prepares the next write. When there is none it ends the flusher and
// returns nil.
func (o *Outbox) next() *queue {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire()
	q, l := o.queue, o.ledger
	most := vectorMost
	if l != nil && l.bytes >= l.window {
		most = q.leaders()
		l.paused = most == 0 && !q.empty()
	}
	switch {
	case o.closed:
		o.abandon()
	case l.rests():
		o.flushing = false
		if l.detached {
			o.signal()
		}
		return nil
	case q.empty():
		o.queue = nil
		o.dried++
		q.free()
		if o.base.config.Quiet > 0 {
			o.dryAt = time.Now().UnixNano()
		}
	default:
		if o.base.raw != nil {
			q.gather(most)
		} else if o.base.line != nil {
			q.gatherPieces(most, corkPlain)
		} else {
			q.gatherPieces(most, progressBytes)
		}
		return q
	}
	o.flushing = false
	o.signal()
	return nil
}

// abandon drops what is left of a closed outbox, for its flusher. It is called with
// mu held, which it gives up while it tells of that.
func (o *Outbox) abandon() {
	var out settled
	o.bury(&out)
	o.mu.Unlock()
	o.report(out.lost)
	out.end()
	o.mu.Lock()
}

// expire drops what it is no use to send any more, for the flusher. It is called
// with mu held, which it gives up while it tells of that.
func (o *Outbox) expire() {
	q := o.queue
	q.gathered = 0 // what was gathered and then left to another is not being written
	for q.expires {
		now := time.Now().UnixNano()
		expired := func(s *segment) bool { return s.expired(now) }
		o.weight -= q.remove(Expired, &q.settled, expired)
		if o.ledger != nil && o.ledger.skips {
			o.weight -= q.skip(&q.settled, expired)
		}
		o.admit(&q.settled)
		if len(q.settled.buffers) == 0 {
			q.stamp(now)
			return
		}
		o.mu.Unlock()
		q.settled.end()
		o.mu.Lock() // perhaps there is more now
	}
}

// write waits until the connection takes something and writes once. It may have written nothing:
// directly, because it does not wait; otherwise, because it has waited and something may have
// expired meanwhile.
func (o *Outbox) write(q *queue) (int, error) {
	q.n, q.err, q.stale, q.handed = 0, nil, false, 0
	if o.base.raw == nil {
		return o.writePieces(q)
	}
	if err := o.base.raw.Write(q.attempt); err != nil {
		return 0, err
	}
	return q.n, q.err
}

// writePieces is write where the connection takes no vector. Beneath TLS it waits for room before
// anything is encrypted, so that a peer that takes nothing holds no buffer, and what may expire can
// still be taken back.
func (o *Outbox) writePieces(q *queue) (int, error) {
	all := q.pieces
	defer q.dropPieces(all)
	if o.base.line == nil {
		p := q.nextPiece(progressBytes)
		q.handed = len(p)
		return o.base.nc.Write(p)
	}
	if err := o.base.line.raw.Write(q.attempt); err != nil || q.stale {
		return 0, err
	}
	p := q.nextPiece(recordSize)
	q.handed = len(p)
	if len(q.pieces) == 0 {
		return o.base.nc.Write(p)
	}
	if q.cork == nil {
		q.cork = newCork()
	}
	if !q.cork.draw(o.base.config.Writes, o.base.owner.Account()) {
		return o.base.nc.Write(p)
	}
	defer q.cork.drop()
	err := o.encrypt(q, p)
	q.dropPieces(all) // a peer that takes nothing more must hold none of it
	return o.writeRecords(q, err)
}

// encrypt makes records of what is gathered, of which p is the first. They wait in the cork.
func (o *Outbox) encrypt(q *queue, p []byte) error {
	o.base.line.setCork(q.cork)
	for {
		if _, err := o.base.nc.Write(p); err != nil {
			return err
		}
		q.cork.wrote(len(p))
		if len(q.pieces) == 0 {
			return nil
		}
		p = q.nextPiece(recordSize)
		q.handed += len(p)
	}
}

// writeRecords writes them at once: crypto/tls makes a system call for each record
// (docs/decisions/0015). What the connection takes in parts counts part by part, as without TLS,
// but for the last part, which is returned. err is why not everything was encrypted.
func (o *Outbox) writeRecords(q *queue, err error) (int, error) {
	for {
		n, more, failed := o.base.line.uncork()
		if err == nil {
			err = failed
		}
		if !more {
			return n, err
		}
		if n > 0 {
			o.wrote(q, n, true)
		}
	}
}

// tryWrite is called by the runtime when there may be room. Beneath TLS it only looks.
func (q *queue) tryWrite(fd uintptr) bool {
	if q.stale {
		return true
	}
	var again bool
	if q.outbox.base.line != nil {
		again = !writableRaw(fd)
	} else {
		q.n, again, q.err = writeRaw(fd, q.vector)
	}
	if again && !q.direct {
		q.stale = q.letGo()
	}
	return !again || q.direct
}

// letGo is for a flusher that is about to wait. If something may expire until it writes, it gives
// up what it has gathered, so that it can be taken back. It reports whether it has.
func (q *queue) letGo() bool {
	q.outbox.mu.Lock()
	defer q.outbox.mu.Unlock()
	if q.expires {
		q.gathered = 0
	}
	return q.expires
}

// wrote takes what has left off the queue and lets those in who waited for room. more says that the
// rest of what was gathered is still being written.
func (o *Outbox) wrote(q *queue, n int, more bool) {
	o.mu.Lock()
	q.handed = max(0, q.handed-n)
	done, weight := q.advance(n, o.ledger)
	if !more {
		q.gathered = 0
	}
	o.weight -= weight
	o.progress(done)
	if len(o.parked) > 0 {
		o.admit(&q.settled)
	}
	if o.ledger != nil {
		o.ledger.settle(&q.settled)
	}
	o.mu.Unlock()
	q.settled.end()
	o.base.owner.Sent(done)
}

// fail ends the writing and tells the owner why: it closes the outbox, or detaches
// it if what it keeps may still reach the peer.
func (o *Outbox) fail(err error) {
	first, detached := false, false
	if !errors.Is(err, ErrStalled) {
		first, detached = o.detach()
	}
	if first || !detached && o.shut() {
		o.base.owner.Failed(err)
	}
}

// close closes the outbox. What is queued is lost.
func (o *Outbox) close() { o.shut() }

// shut closes the outbox and reports whether it was open. Those who wait for
// room go on. The flusher drops the queue, for it may be writing from it; without
// one, it is dropped here.
func (o *Outbox) shut() bool {
	o.mu.Lock()
	if o.closed || o.ledger != nil && o.ledger.moved != nil {
		o.mu.Unlock()
		return false
	}
	o.closed = true
	waiting := o.parked
	o.parked = nil
	if o.clock != nil {
		o.clock.timer.Stop()
	}
	var out settled
	if !o.flushing {
		o.bury(&out)
		o.signal()
	}
	o.mu.Unlock()

	for _, w := range waiting {
		s := segmentOf(&w.piece)
		out.discard(&s, Unsent)
		out.tickets = append(out.tickets, w.ticket)
	}
	o.report(out.lost)
	out.end()
	return true
}

// bury drops what is left of a closed outbox. It is called with mu held.
func (o *Outbox) bury(out *settled) {
	if o.ledger != nil {
		o.ledger.bury(out)
	}
	q := o.queue
	if q == nil {
		return
	}
	o.queue = nil
	for i := q.head; i < len(q.segments); i++ {
		out.discard(&q.segments[i], Unsent)
		q.segments[i] = segment{}
	}
	out.lost.Bytes -= q.sent // counted as sent already
	q.free()
}

func (o *Outbox) report(lost Tally) {
	if lost.Frames > 0 {
		o.base.owner.Lost(lost)
	}
}
