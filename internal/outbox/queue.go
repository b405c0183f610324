package outbox

import (
	"math"
	"slices"

	"github.com/sechlol/go-message-hub/wire"
)

const (
	// maxSegments is the number of segments at which an outbox is full.
	maxSegments = 4 * maxVector

	// maxVector is the maximum number of segments in one system call: 64 KiB if they are the
	// smallest that are not copied.
	maxVector = 64
)

// queue holds the frames of an outbox, in the order in which they are written.
type queue struct {
	segments []segment
	head     int
	headSent int // bytes of the first frame of the head segment that the connection has accepted
	weight   int // bytes that are not written, with the cost of their bookkeeping

	writing     int  // number of segments in the current write
	hasExpiring bool // segments can expire

	vector      [][]byte // the bytes of the next write
	vectorSize  int      // their number
	mayExpire   bool     // hasExpiring of the next write
	unconfirmed int      // bytes of the last write that the peer can have received, besides those written
	partsLeft   bool     // the connection holds the unconfirmed bytes and has not failed: see Conn.Write
}

func (q *queue) empty() bool { return q.head == len(q.segments) }

// length returns the number of segments.
func (q *queue) length() int { return len(q.segments) - q.head }

// reset empties the queue. It keeps no buffer alive.
func (q *queue) reset() {
	clear(q.vector)
	*q = queue{segments: q.segments[:0], vector: q.vector[:0]}
}

// appendCopy copies batch behind the last segment if that segment is a block with room for it. The
// caller counts the weight: see Outbox.copied.
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
	q.weight += s.weight()
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
	q.weight += s.weight()
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

// spannedBy returns the number of segments at the front that hold the next n bytes to be written.
func (q *queue) spannedBy(n int) (segments int) {
	n += q.headSent
	for i := q.head; n > 0; i++ {
		n -= q.segments[i].to - q.segments[i].from
		segments++
	}
	return segments
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

// consume removes n written bytes from the front of the gathered segments and returns the
// counts of the finished frames. Reliable frames move to rq if it is not nil.
func (q *queue) consume(n int, rq *retransmitQueue, out *completions) (written Counts) {
	written.Bytes = n
	q.weight -= n
	n += q.headSent
	q.headSent = 0
	for n > 0 {
		s := &q.segments[q.head]
		if n < s.to-s.from {
			q.consumePartial(s, n, &written, rq, out)
			return written
		}
		n -= s.to - s.from
		written.Frames += s.frames
		written.Deliveries += s.deliveries()
		if !s.isBlock {
			q.weight -= segmentCost
		}
		out.addWritten(s, s.frames)
		complete(s, rq, out)
		*s = segment{}
		q.head++
		q.writing--
	}
	return written
}

// consumePartial accounts for the first n bytes of a segment that was not written whole.
func (q *queue) consumePartial(s *segment, n int, written *Counts, rq *retransmitQueue, out *completions) {
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
	out.addWritten(s, finished.frames)
	s.frames -= finished.frames
	s.first += int32(finished.frames)
	s.from = finished.to
	s.buffer.Retain()
	complete(&finished, rq, out)
}

// complete releases a written segment, or moves it to the retransmit queue.
func complete(s *segment, rq *retransmitQueue, out *completions) {
	if !s.reliable || rq == nil {
		out.buffers = append(out.buffers, s.buffer)
		return
	}
	rq.add(s)
}

// possiblyReceived returns how many queued reliable frames the peer can have received: frames
// written on an earlier connection, the frame of which this connection has accepted a part,
// and frames of a write that has failed.
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

// reliableFrames returns the number of queued reliable frames.
func (q *queue) reliableFrames() (n uint64) {
	for _, s := range q.segments[q.head:] {
		if s.reliable {
			n += uint64(s.frames)
		}
	}
	return n
}

// replaceWithSkips replaces the matching segments by SKIPs where their frames already have
// numbers, except those that the peer has read.
func (q *queue) replaceWithSkips(out *completions, match func(*segment) bool) {
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
		q.weight -= s.weight()
		s.options = nil
		parts := appendSkips(buf[:0], *s)
		for j := range parts {
			q.weight += parts[j].weight()
		}
		q.segments = slices.Replace(q.segments, i, i+1, parts...)
		i += len(parts) - 1
	}
}

// remove removes the matching segments, except those that are being written and
// retransmissions.
func (q *queue) remove(event Event, out *completions, match func(*segment) bool) {
	pos := min(q.head+q.pinned(), len(q.segments))
	end := pos
	for ; pos < len(q.segments); pos++ {
		s := &q.segments[pos]
		if !s.retransmission && match(s) {
			q.weight -= s.weight()
			out.discard(s, event)
			continue
		}
		q.segments[end] = *s
		end++
	}
	clear(q.segments[end:])
	q.segments = q.segments[:end]
}

// removeAll removes all frames, which are lost.
func (q *queue) removeAll(out *completions) {
	for i := q.head; i < len(q.segments); i++ {
		out.discard(&q.segments[i], EventLost)
		q.segments[i] = segment{}
	}
	out.dropped.Bytes -= q.headSent // already counted as written
}
