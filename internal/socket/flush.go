package socket

import "time"

// flush writes until the queue is dry or the outbox is closed. Whoever has set
// flushing is the only one who writes: this goroutine, or flushDirect before it.
// Outbox.Wait waits for its end.
func (o *Outbox) flush() {
	for {
		q := o.next()
		if q == nil {
			return
		}
		n, err := o.write(q)
		o.wrote(q, n)
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
	o.direct = true
	n, err := o.write(q)
	o.direct = false
	o.wrote(q, n)
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
	q := o.queue
	switch {
	case o.closed:
		o.queue = nil
		o.mu.Unlock()
		o.lose(q)
		o.mu.Lock()
	case q.empty():
		o.queue = nil
		o.dried++
		q.free()
		if o.base.config.Quiet > 0 {
			o.dryAt = time.Now().UnixNano()
		}
	default:
		if o.base.raw != nil {
			q.gather()
		} else {
			q.gatherOne()
		}
		return q
	}
	o.flushing = false
	if o.dry != nil {
		close(o.dry)
		o.dry = nil
	}
	return nil
}

// write waits until the connection takes something and writes once. Directly, it
// does not wait: then it may have written nothing.
func (o *Outbox) write(q *queue) (int, error) {
	if o.base.raw == nil {
		return o.base.nc.Write(q.one)
	}
	o.n, o.err, o.writing = 0, nil, q
	err := o.base.raw.Write(o.attempt)
	o.writing = nil
	if err != nil {
		return 0, err
	}
	return o.n, o.err
}

// tryWrite is called by the runtime when there may be room.
func (o *Outbox) tryWrite(fd uintptr) bool {
	n, again, err := writeRaw(fd, o.writing.vector)
	o.n, o.err = n, err
	return !again || o.direct
}

// wrote takes what has left off the queue and lets those in who waited for room.
func (o *Outbox) wrote(q *queue, n int) {
	o.mu.Lock()
	done, weight := q.advance(n)
	o.weight -= weight
	o.progress(done)
	var tickets []*ticket
	if len(o.parked) > 0 {
		tickets = o.admit(nil)
	}
	o.mu.Unlock()

	for i, buffer := range q.written {
		buffer.Release()
		q.written[i] = nil
	}
	for _, t := range tickets {
		t.done()
	}
	o.base.owner.Sent(done)
}

// fail closes the outbox and tells the owner why.
func (o *Outbox) fail(err error) {
	if o.shut() {
		o.base.owner.Failed(err)
	}
}

// close closes the outbox. What is queued is lost.
func (o *Outbox) close() { o.shut() }

// shut closes the outbox and reports whether it was open. Those who wait for
// room go on; the flusher drops the queue, for it may be writing from it.
func (o *Outbox) shut() bool {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return false
	}
	o.closed = true
	waiting := o.parked
	o.parked = nil
	if o.timer != nil {
		o.timer.Stop()
	}
	o.mu.Unlock()

	var lost Tally
	for _, w := range waiting {
		lost.add(Tally{w.piece.Frames, w.piece.Deliveries, w.piece.To - w.piece.From})
		w.piece.Buffer.Release()
		w.ticket.done()
	}
	o.report(lost)
	return true
}

// lose drops what is left of a queue.
func (o *Outbox) lose(q *queue) {
	if q == nil {
		return
	}
	var lost Tally
	for i := q.head; i < len(q.segments); i++ {
		q.segments[i].drop(&lost)
		q.segments[i] = segment{}
	}
	lost.Bytes -= q.sent // counted as sent already
	q.free()
	o.report(lost)
}

func (o *Outbox) report(lost Tally) {
	if lost.Frames > 0 {
		o.base.owner.Lost(lost)
	}
}
