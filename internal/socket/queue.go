package socket

import (
	"slices"
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// maxCopy is the largest piece that is copied into an outbox, in bytes.
	// Above it, a reference and a place of its own in the vectored write are
	// cheaper than the copy (docs/decisions/0004).
	maxCopy = 1 << 10

	// blockSize is how many bytes of copied frames lie together.
	blockSize = 16 << 10

	// segmentCost is what a queued reference counts in the outbox beyond its
	// bytes: the memory of its bookkeeping, so that a queue of tiny frames is
	// bounded as well.
	segmentCost = 64

	// maxSegments is how many pieces an outbox holds.
	maxSegments = 4 * maxVector

	// maxVector is how many pieces leave in one system call: 64 KiB of the smallest
	// that are not copied.
	maxVector = 64
)

// segment is a run of whole frames in one buffer.
type segment struct {
	buffer         *body.Buffer
	from, to       int // what of the buffer is still to be sent
	frames         int
	deliveries     int
	isBlock        bool  // the outbox's own: more may be copied behind to
	reliable       bool  // kept until it is acknowledged
	receiver       int16 // Batch.Receiver
	first          int32 // which frame of its piece the first one is
	options        *Options
	priority       bool // it has overtaken what is not
	retransmission bool // it was sent before, at least in part, and counts: it will be sent again
	writeReported  bool // that it was written has been told
}

// weight returns what the segment counts in the outbox.
func (s *segment) weight() int {
	if s.isBlock {
		return s.to - s.from
	}
	return s.to - s.from + segmentCost
}

// completions is what is to be done about frames that are through, or never will be,
// when no lock is held.
type completions struct {
	events  []pendingEvent
	buffers []*body.Buffer // to be released
	waiters []*waiter      // whose piece waits no more
	dropped Counts         // not sent
}

// run does it.
func (c *completions) run() {
	for i, buffer := range c.buffers {
		buffer.Release()
		c.buffers[i] = nil
	}
	for i, w := range c.waiters {
		w.done()
		c.waiters[i] = nil
	}
	emitEvents(c.events)
	clear(c.events)
	c.events, c.buffers, c.waiters, c.dropped = c.events[:0], c.buffers[:0], c.waiters[:0], Counts{}
}

// addWritten notes that the connection took the first frames of a segment, unless that has
// been told: one may be written again on another connection.
func (c *completions) addWritten(s *segment, frames int) {
	if !s.writeReported {
		c.events = s.appendEvent(c.events, EventWritten, frames)
	}
}

// discard gives up a segment that will not be sent.
func (c *completions) discard(s *segment, event Event) {
	if s.writeReported && event == EventLost {
		event = EventUnacked
	}
	c.events = s.appendEvent(c.events, event, s.frames)
	c.dropped.add(Counts{s.frames, s.deliveries, s.to - s.from})
	c.buffers = append(c.buffers, s.buffer)
}

// queue is what an outbox holds while it is not empty. The segments are guarded
// by the outbox's lock; the scratch space belongs to the flusher. While there is a flusher,
// or somebody has promised to start one, no other goroutine frees the queue.
type queue struct {
	outbox     *Outbox               // that it belongs to
	tryWriteFn func(fd uintptr) bool // tryWrite, bound once so that a write allocates nothing
	flushFn    func()                // flush of the outbox, likewise

	segments []segment
	head     int
	headSent int // bytes of the first frame of the head segment that have left

	writing     int  // how many segments the flusher is writing
	hasExpiring bool // some may expire

	direct      bool // whoever flushes must not wait
	stale       bool // what the next attempt would write was let go
	n           int  // outcome of the last attempt
	err         error
	vector      vector
	unconfirmed int          // bytes that the connection was given by the last write, and has not said that it took
	chunks      [][]byte     // what the next write sends, where the connection takes no vector
	coalesced   *body.Buffer // what several of them are copied together in
	cork        *cork        // nil: no two records have left together yet
	completions completions
}

var queues sync.Pool // of *queue

// newQueue returns an empty queue for an outbox.
func newQueue(o *Outbox) *queue {
	q, _ := queues.Get().(*queue)
	if q == nil {
		q = &queue{
			// Little, for there may be thousands who take nothing. Those that are used grow.
			segments: make([]segment, 0, 4),
			vector:   make(vector, 0, 4),
		}
		q.tryWriteFn, q.flushFn = q.tryWrite, func() { q.outbox.flush() }
	}
	q.outbox = o
	return q
}

func (q *queue) empty() bool { return q.head == len(q.segments) }

// free returns an empty queue to the pool, unless a rare flood of tiny pieces
// has made it large.
func (q *queue) free() {
	if cap(q.segments) > maxSegments {
		return
	}
	clear(q.vector) // so that an idle queue keeps no body alive
	q.segments, q.head, q.headSent = q.segments[:0], 0, 0
	q.writing, q.unconfirmed, q.hasExpiring, q.outbox, q.err = 0, 0, false, nil, nil
	queues.Put(q)
}

// appendCopy copies p behind the last segment if that is a block with room for it.
func (q *queue) appendCopy(batch *Batch) bool {
	if q.empty() {
		return false
	}
	last := &q.segments[len(q.segments)-1]
	if !last.isBlock || last.reliable != batch.Reliable || len(last.buffer.Bytes())-last.to < batch.To-batch.From {
		return false
	}
	last.to += copy(last.buffer.Bytes()[last.to:], batch.Buffer.Bytes()[batch.From:batch.To])
	last.frames += batch.Frames
	last.deliveries += batch.Deliveries
	return true
}

// push appends a segment. Space at the front is used again before more is taken.
func (q *queue) push(s *segment) {
	if q.head > 0 && len(q.segments) == cap(q.segments) {
		n := copy(q.segments, q.segments[q.head:])
		clear(q.segments[n:])
		q.segments, q.head = q.segments[:n], 0
	}
	q.segments = append(q.segments, *s)
	q.hasExpiring = q.hasExpiring || s.expires()
}

// pushPriority puts a segment before all but those that are being written and those that
// have overtaken before it.
func (q *queue) pushPriority(s *segment) {
	s.priority = true
	pos := q.head + q.pinned()
	for pos < len(q.segments) && q.segments[pos].priority {
		pos++
	}
	q.segments = slices.Insert(q.segments, pos, *s)
}

// promotePriority moves those segments to the front that overtake, and returns how many they are. One of which
// the connection has a part is like them: nothing else can be written before its rest. It must not be
// called while something is being written: what overtakes was put behind that, of which a write
// may have left some.
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

// pinned returns how many segments at the front nothing may be put before, or taken out of.
func (q *queue) pinned() int {
	if q.headSent > 0 { // the start of it has left
		return max(q.writing, 1)
	}
	return q.writing
}

// stamp has those segments changed that tell how much time they have left. What has expired is taken out already.
func (q *queue) stamp(now int64) {
	for i := q.head + q.pinned(); i < len(q.segments); i++ {
		if s := &q.segments[i]; s.expires() && s.options.Stamp != nil {
			s.options.Stamp(s.buffer.Bytes()[s.from:s.to], s.options.Expires-now)
		}
	}
}

// buildVector collects what the next write sends, of at most so many segments.
func (q *queue) buildVector(limit int) {
	clear(q.vector)
	q.vector = q.vector[:0]
	sent := q.headSent
	for i := q.head; i < len(q.segments) && len(q.vector) < min(limit, maxVector); i++ {
		s := &q.segments[i]
		q.vector = q.vector.add(s.buffer.Bytes()[s.from+sent : s.to])
		sent = 0
	}
	q.writing = len(q.vector)
}

// buildChunks is gather where the connection takes no vector, of at most so many bytes.
func (q *queue) buildChunks(limit, maxBytes int) {
	sent, size := q.headSent, 0
	for i := q.head; i < len(q.segments) && len(q.chunks) < min(limit, maxVector) && size < maxBytes; i++ {
		s := &q.segments[i]
		p := s.buffer.Bytes()[s.from+sent : s.to]
		p = p[:min(len(p), maxBytes-size)]
		q.chunks = append(q.chunks, p)
		size += len(p)
		sent = 0
	}
	q.writing = len(q.chunks)
}

// nextChunk takes what one Write of the connection sends off the pieces, at most so many bytes of
// one. Several little ones are copied together into a record of TLS.
func (q *queue) nextChunk(maxBytes int) []byte {
	p := q.chunks[0]
	if len(p) > maxBytes {
		q.chunks[0] = p[maxBytes:]
		return p[:maxBytes]
	}
	n, size := 1, len(p)
	for len(p) <= maxRecordSize/2 && n < len(q.chunks) && size+len(q.chunks[n]) <= maxRecordSize {
		size += len(q.chunks[n])
		n++
	}
	if n > 1 {
		if q.coalesced == nil {
			q.coalesced = body.Get(maxRecordSize)
		}
		p = q.coalesced.Bytes()[:0]
		for _, chunk := range q.chunks[:n] {
			p = append(p, chunk...)
		}
	}
	q.chunks = q.chunks[n:]
	return p
}

// releaseChunks gives back what buildChunks and nextChunk have borrowed.
func (q *queue) releaseChunks(chunks [][]byte) {
	clear(chunks) // so that an idle queue keeps no body alive
	q.chunks = chunks[:0]
	if q.coalesced != nil {
		q.coalesced.Release()
		q.coalesced = nil
	}
}

// consume takes n written bytes off the front, of what was gathered, and returns what they
// finished, and by how much the outbox is lighter. What is counted goes to kept, if there is one.
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
		written.Deliveries += s.deliveries
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

// consumePartial accounts for the first n bytes of a segment that has not left whole.
func (q *queue) consumePartial(s *segment, n int, written *Counts, rq *retransmitQueue) {
	finished := *s
	finished.frames, finished.deliveries, finished.to = 0, 0, s.from
	for frame := range wire.Frames(s.buffer.Bytes()[s.from : s.from+n]) {
		if carriesMessage(frame) {
			finished.deliveries++
		}
		finished.frames++
		finished.to += len(frame)
		n -= len(frame)
	}
	q.headSent = n
	if finished.frames == 0 {
		return
	}
	written.Frames += finished.frames
	written.Deliveries += finished.deliveries
	q.completions.addWritten(s, finished.frames)
	s.frames -= finished.frames
	s.deliveries -= finished.deliveries
	s.first += int32(finished.frames)
	s.from = finished.to
	s.buffer.Retain()
	q.complete(&finished, rq)
}

// complete parts with a segment that is written.
func (q *queue) complete(s *segment, rq *retransmitQueue) {
	if !s.reliable || rq == nil {
		q.completions.buffers = append(q.completions.buffers, s.buffer)
		return
	}
	rq.add(s)
}

// possiblyReceived is that of the outbox.
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

// replaceWithSkips puts SKIPs in the place of segments for which gone returns true, where frames have their
// numbers already, but for what the peer has read. It returns by how much the outbox is lighter.
func (q *queue) replaceWithSkips(out *completions, match func(*segment) bool) (weight int) {
	var buf [1]segment // most take no more
	for i := q.head + q.pinned(); i < len(q.segments); i++ {
		s := &q.segments[i]
		if !s.retransmission || s.isSkips() || !match(s) {
			continue
		}
		event := EventExpired // it was begun, and never whole
		if s.writeReported {
			event = EventUnacked
		}
		out.events = s.appendEvent(out.events, event, s.frames)
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

// remove takes segments that will not be sent out of the queue: those for which
// gone returns true, of all that are not being written. It returns by how much the
// outbox is lighter.
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
