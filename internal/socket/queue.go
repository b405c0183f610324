package socket

import (
	"math"
	"slices"
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// maxCopy is the maximum size of a batch that is copied into an outbox, in bytes. Above it, a
	// reference and a separate entry in the vectored write are cheaper than the copy
	// (docs/decisions/0004).
	maxCopy = 1 << 10

	// blockSize is the size of a block of copied frames, in bytes.
	blockSize = 16 << 10

	// segmentCost is the cost of a queued reference in the weight of the outbox, in addition to
	// its bytes. It stands for the memory of the bookkeeping, which must be bounded for tiny
	// frames as well.
	segmentCost = 64

	// maxSegments is the number of segments at which an outbox is full.
	maxSegments = 4 * maxVector

	// maxVector is the maximum number of segments in one system call: 64 KiB if they are the
	// smallest that are not copied.
	maxVector = 64
)

// segment is a group of consecutive whole frames in one buffer.
type segment struct {
	buffer         *body.Buffer
	from, to       int // the part of buffer to be sent
	frames         int
	messages       bool  // Batch.Messages
	isBlock        bool  // a block of the outbox: more frames can be copied behind to
	reliable       bool  // kept until acknowledged
	receiver       int16 // Batch.Receiver
	first          int32 // index of the first frame in its batch: see Batch.First
	options        *Options
	priority       bool // written before segments without priority
	retransmission bool // reliable and sent before, at least in part
	writeReported  bool // EventWritten was reported
}

// weight returns what the segment adds to the weight of the outbox.
func (s *segment) weight() int {
	if s.isBlock {
		return s.to - s.from
	}
	return s.to - s.from + segmentCost
}

// deliveries returns the number of frames that carry a message.
func (s *segment) deliveries() int {
	if s.messages {
		return s.frames
	}
	return 0
}

// completions collects what must be done for finished frames when no lock is held.
type completions struct {
	losses  []pendingEvent // events of frames that were not delivered
	buffers []*body.Buffer // to release
	waiters []*waiter      // of sends that are no longer blocked
	events  []pendingEvent // all other events
	dropped Counts         // of frames that are not sent
}

// run reports the losses, releases the buffers, wakes the waiters, reports the other events,
// and resets c. The handler of a loss can thus still read the bytes that were not delivered.
// The other events come last, because the handler then finds the memory of delivered frames
// released.
func (c *completions) run() {
	emitEvents(c.losses)
	for i, buffer := range c.buffers {
		buffer.Release()
		c.buffers[i] = nil
	}
	for i, w := range c.waiters {
		w.done()
		c.waiters[i] = nil
	}
	emitEvents(c.events)
	clear(c.losses)
	clear(c.events)
	c.losses, c.buffers, c.waiters, c.events, c.dropped = c.losses[:0], c.buffers[:0], c.waiters[:0], c.events[:0], Counts{}
}

// addEvent adds an event of the first frames of s if s has an EventHandler.
func (c *completions) addEvent(s *segment, event Event, frames int) {
	if s.options == nil || s.options.Events == nil || frames == 0 {
		return
	}
	e := pendingEvent{s.options, int(s.receiver), event, int(s.first), frames}
	if event.isLoss() {
		c.losses = append(c.losses, e)
	} else {
		c.events = append(c.events, e)
	}
}

// addWritten adds EventWritten for the first frames of a segment, unless it was reported
// before: a segment can be written again on another connection.
func (c *completions) addWritten(s *segment, frames int) {
	if !s.writeReported {
		c.addEvent(s, EventWritten, frames)
	}
}

// discard adds the completions of a segment that will not be sent.
func (c *completions) discard(s *segment, event Event) {
	if s.writeReported && event == EventLost {
		event = EventUnacked
	}
	c.addEvent(s, event, s.frames)
	c.dropped.add(Counts{s.frames, s.deliveries(), s.to - s.from})
	c.buffers = append(c.buffers, s.buffer)
}

// queue holds the frames of a non-empty outbox. The segments are guarded by the lock of the
// outbox; the scratch space belongs to the goroutine that writes. While Outbox.flushing is
// set, no other goroutine frees the queue.
type queue struct {
	outbox  *Outbox
	flushFn func() // flush of the outbox, bound once so that no goroutine needs a new closure

	segments []segment
	head     int
	headSent int // bytes of the first frame of the head segment that the connection has accepted

	writing     int  // number of segments in the current write
	hasExpiring bool // segments can expire

	vector      [][]byte // the bytes of the next write
	vectorSize  int      // their number
	mayExpire   bool     // hasExpiring of the next write
	unconfirmed int      // bytes of the last write, which has failed, that the peer can have received
	completions completions
}

var queues sync.Pool // of *queue

// newQueue returns an empty queue for an outbox.
func newQueue(o *Outbox) *queue {
	q, _ := queues.Get().(*queue)
	if q == nil {
		q = &queue{
			// Small at first, because thousands of receivers can accept no data. They grow with use.
			segments: make([]segment, 0, 4),
			vector:   make([][]byte, 0, 4),
		}
		q.flushFn = func() { q.outbox.flush() }
	}
	q.outbox = o
	return q
}

func (q *queue) empty() bool { return q.head == len(q.segments) }

// free returns an empty queue to the pool, unless a rare flood of tiny batches has made it
// large.
func (q *queue) free() {
	if cap(q.segments) > maxSegments {
		return
	}
	clear(q.vector) // an idle queue must keep no buffer alive
	q.segments, q.head, q.headSent = q.segments[:0], 0, 0
	q.writing, q.unconfirmed, q.hasExpiring, q.outbox = 0, 0, false, nil
	queues.Put(q)
}

// appendCopy copies batch behind the last segment if that segment is a block with room for it.
func (q *queue) appendCopy(batch *Batch) bool {
	if q.empty() {
		return false
	}
	last := &q.segments[len(q.segments)-1]
	if !last.isBlock || last.reliable != batch.Reliable || last.messages != batch.Messages || len(last.buffer.Bytes())-last.to < batch.To-batch.From {
		return false
	}
	last.to += copy(last.buffer.Bytes()[last.to:], batch.Buffer.Bytes()[batch.From:batch.To])
	last.frames += batch.Frames
	return true
}

// push appends a segment. It reuses space at the front before it grows the slice.
func (q *queue) push(s *segment) {
	if q.head > 0 && len(q.segments) == cap(q.segments) {
		n := copy(q.segments, q.segments[q.head:])
		clear(q.segments[n:])
		q.segments, q.head = q.segments[:n], 0
	}
	q.segments = append(q.segments, *s)
	q.hasExpiring = q.hasExpiring || s.expires()
}

// pushPriority inserts a segment behind the segments that are being written and the segments
// with priority, and before all others.
func (q *queue) pushPriority(s *segment) {
	s.priority = true
	pos := q.head + q.pinned()
	for pos < len(q.segments) && q.segments[pos].priority {
		pos++
	}
	q.segments = slices.Insert(q.segments, pos, *s)
}

// promotePriority moves the segments with priority to the front and returns the number of
// segments that can be written: a segment of which the connection has accepted a part counts
// as well, because no other frame can be written before its rest. It must not be called during
// a write: pushPriority puts segments behind those being written, and the write can leave some
// of these unwritten.
func (q *queue) promotePriority() int {
	pos := q.head
	if q.headSent > 0 {
		pos++
	}
	for i := pos; i < len(q.segments); i++ {
		if s := q.segments[i]; s.priority {
			copy(q.segments[pos+1:i+1], q.segments[pos:i])
			q.segments[pos] = s
			pos++
		}
	}
	return pos - q.head
}

// pinned returns the number of segments at the front that cannot be removed and before which
// no segment can be inserted.
func (q *queue) pinned() int {
	if q.headSent > 0 { // its start has been written
		return max(q.writing, 1)
	}
	return q.writing
}

// stamp calls Options.Stamp for the segments that show their remaining time. Expired segments
// must have been removed before.
func (q *queue) stamp(now int64) {
	for i := q.head + q.pinned(); i < len(q.segments); i++ {
		if s := &q.segments[i]; s.expires() && s.options.Stamp != nil {
			s.options.Stamp(s.buffer.Bytes()[s.from:s.to], s.options.Expires-now)
		}
	}
}

// buildVector gathers the next write: at most limit segments, and at most maxBytes bytes
// unless that is 0.
func (q *queue) buildVector(limit, maxBytes int) {
	clear(q.vector)
	q.vector, q.vectorSize, q.mayExpire = q.vector[:0], 0, q.hasExpiring
	if maxBytes == 0 {
		maxBytes = math.MaxInt
	}
	sent := q.headSent
	for i := q.head; i < len(q.segments) && len(q.vector) < min(limit, maxVector) && q.vectorSize < maxBytes; i++ {
		s := &q.segments[i]
		p := s.buffer.Bytes()[s.from+sent : s.to]
		p = p[:min(len(p), maxBytes-q.vectorSize)]
		q.vector = append(q.vector, p)
		q.vectorSize += len(p)
		sent = 0
	}
	q.writing = len(q.vector)
}

// consume removes n written bytes from the front of the gathered segments. It returns the
// counts of the finished frames and the weight that the outbox has lost. Reliable frames move
// to rq if it is not nil.
func (q *queue) consume(n int, rq *retransmitQueue) (written Counts, weight int) {
	written.Bytes = n
	weight = n
	n += q.headSent
	q.headSent = 0
	for n > 0 {
		s := &q.segments[q.head]
		if n < s.to-s.from {
			q.consumePartial(s, n, &written, rq)
			return written, weight
		}
		n -= s.to - s.from
		written.Frames += s.frames
		written.Deliveries += s.deliveries()
		if !s.isBlock {
			weight += segmentCost
		}
		q.completions.addWritten(s, s.frames)
		q.complete(s, rq)
		*s = segment{}
		q.head++
		q.writing--
	}
	return written, weight
}

// consumePartial accounts for the first n bytes of a segment that was not written whole.
func (q *queue) consumePartial(s *segment, n int, written *Counts, rq *retransmitQueue) {
	finished := *s
	finished.frames, finished.to = 0, s.from
	for frame := range wire.Frames(s.buffer.Bytes()[s.from : s.from+n]) {
		finished.frames++
		finished.to += len(frame)
		n -= len(frame)
	}
	q.headSent = n
	if finished.frames == 0 {
		return
	}
	written.Frames += finished.frames
	written.Deliveries += finished.deliveries()
	q.completions.addWritten(s, finished.frames)
	s.frames -= finished.frames
	s.first += int32(finished.frames)
	s.from = finished.to
	s.buffer.Retain()
	q.complete(&finished, rq)
}

// complete releases a written segment, or moves it to the retransmit queue.
func (q *queue) complete(s *segment, rq *retransmitQueue) {
	if !s.reliable || rq == nil {
		q.completions.buffers = append(q.completions.buffers, s.buffer)
		return
	}
	rq.add(s)
}

// possiblyReceived is Outbox.possiblyReceived for a queue.
func (q *queue) possiblyReceived() (frames uint64) {
	remaining := q.headSent + q.unconfirmed
	for i := q.head; i < len(q.segments); i++ {
		s := &q.segments[i]
		if remaining <= 0 && s.reliable && !s.writeReported {
			break
		}
		for frame := range wire.Frames(s.buffer.Bytes()[s.from:s.to]) {
			if remaining <= 0 && !s.writeReported {
				break
			}
			if s.reliable {
				frames++
			}
			remaining -= len(frame)
		}
	}
	return frames
}

// replaceWithSkips replaces the matching segments by SKIPs where their frames already have
// numbers, except those that the peer has read. It returns the weight that the outbox has
// lost.
func (q *queue) replaceWithSkips(out *completions, match func(*segment) bool) (weight int) {
	var buf [1]segment // most replacements need one segment
	for i := q.head + q.pinned(); i < len(q.segments); i++ {
		s := &q.segments[i]
		if !s.retransmission || s.isSkips() || !match(s) {
			continue
		}
		event := EventExpired // the frame was written in part, and never whole
		if s.writeReported {
			event = EventUnacked
		}
		out.addEvent(s, event, s.frames)
		out.buffers = append(out.buffers, s.buffer)
		weight += s.weight()
		s.options = nil
		parts := appendSkips(buf[:0], *s)
		for j := range parts {
			weight -= parts[j].weight()
		}
		q.segments = slices.Replace(q.segments, i, i+1, parts...)
		i += len(parts) - 1
	}
	return weight
}

// remove removes the matching segments, except those that are being written and
// retransmissions. It returns the weight that the outbox has lost.
func (q *queue) remove(event Event, out *completions, match func(*segment) bool) (weight int) {
	pos := min(q.head+q.pinned(), len(q.segments))
	end := pos
	for ; pos < len(q.segments); pos++ {
		s := &q.segments[pos]
		if !s.retransmission && match(s) {
			weight += s.weight()
			out.discard(s, event)
			continue
		}
		q.segments[end] = *s
		end++
	}
	clear(q.segments[end:])
	q.segments = q.segments[:end]
	return weight
}
