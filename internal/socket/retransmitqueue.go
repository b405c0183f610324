package socket

import "github.com/sechlol/go-message-hub/wire"

// retransmitQueue is what an outbox keeps of counted frames that were written, until the
// peer has acknowledged them: on a lost connection it cannot know what of them has
// arrived. It is guarded by the outbox's lock.
type retransmitQueue struct {
	window        int  // bytes kept at which writing pauses
	skipSupported bool // the peer knows SKIP
	written       uint64
	acked         uint64
	largestAcked  uint64 // acknowledged by the peer, perhaps before the writer has noted that it wrote
	unacked       []segment
	head          int
	heldBytes     int    // bytes of kept, where their buffers are still held
	windowBytes   int    // that count for the window: held, SKIPs, and what the bookkeeping takes
	freedBytes    uint64 // bytes that were held until they were acknowledged

	windowBlocked bool    // the flusher has ended because the window is full
	detached      bool    // there is no connection to write to
	resuming      bool    // all that is kept will be sent again, so it is not given up
	movedTo       *Outbox // which one has taken everything over
}

// writeBlocked reports whether nothing may be written now.
func (rq *retransmitQueue) writeBlocked() bool { return rq != nil && (rq.windowBlocked || rq.detached) }

// moveTo gives what is kept to another outbox, to be sent again before anything
// that is queued.
func (rq *retransmitQueue) moveTo(to *Outbox) {
	to.retransmit.written, to.retransmit.acked, to.retransmit.largestAcked = rq.acked, rq.acked, rq.acked
	for i := rq.head; i < len(rq.unacked); i++ {
		s := &rq.unacked[i]
		s.retransmission, s.writeReported = true, true
		to.push(s)
		to.weight += s.weight()
	}
	rq.unacked, rq.head, rq.windowBytes, rq.heldBytes = nil, 0, 0, 0
}

// moveTo does so with what is queued, without the first had frames, which have
// arrived although nobody noted that they were written. What answers requests of
// the old connection is dropped.
func (q *queue) moveTo(to *Outbox, received uint64, out *completions) {
	for i := q.head; i < len(q.segments); i++ {
		s := q.segments[i]
		if !s.reliable {
			out.discard(&s, EventLost)
			continue
		}
		if n := int(min(received, uint64(s.frames))); n > 0 {
			received -= uint64(n)
			to.retransmit.written += uint64(n)
			to.retransmit.acked += uint64(n)
			to.retransmit.largestAcked += uint64(n)
			out.addWritten(&s, n)
			out.events = s.appendEvent(out.events, EventAcked, n)
			if n == s.frames {
				out.buffers = append(out.buffers, s.buffer)
				continue
			}
			s.trimFrames(n)
		}
		s.isBlock = false // others may refer to it
		s.retransmission = s.retransmission || q.headSent > 0 && i == q.head
		to.push(&s)
		to.weight += s.weight()
	}
	clear(q.segments)
	q.segments, q.head, q.headSent = q.segments[:0], 0, 0
	q.free()
}

// add takes over a segment that is written, or the first frames of it. Its buffer
// may be nil: then only what happens to it is kept.
func (rq *retransmitQueue) add(s *segment) {
	rq.written += uint64(s.frames)
	rq.windowBytes += segmentCost
	if s.buffer != nil {
		rq.addBytes(s, s.to-s.from)
	}
	if rq.head > 0 && len(rq.unacked) == cap(rq.unacked) {
		n := copy(rq.unacked, rq.unacked[rq.head:])
		clear(rq.unacked[n:])
		rq.unacked, rq.head = rq.unacked[:n], 0
	}
	s.isBlock = false
	rq.unacked = append(rq.unacked, *s)
}

// addBytes accounts for n bytes of s more, or less.
func (rq *retransmitQueue) addBytes(s *segment, n int) {
	rq.windowBytes += n
	if !s.isSkips() {
		rq.heldBytes += n
	}
}

// processAcks drops what was acknowledged, as far as it is written. It appends what is
// to be told and released.
func (rq *retransmitQueue) processAcks(out *completions) {
	for rq.acked < min(rq.largestAcked, rq.written) {
		s := &rq.unacked[rq.head]
		n := int(min(uint64(s.frames), rq.largestAcked-rq.acked))
		rq.acked += uint64(n)
		out.events = s.appendEvent(out.events, EventAcked, n)
		if n < s.frames {
			rq.addFreed(s, s.trimFrames(n))
			return
		}
		if s.buffer != nil {
			rq.addFreed(s, s.to-s.from)
			out.buffers = append(out.buffers, s.buffer)
		}
		rq.windowBytes -= segmentCost
		*s = segment{}
		rq.head++
	}
	if rq.head == len(rq.unacked) {
		rq.unacked, rq.head = rq.unacked[:0], 0
	}
}

// addFreed accounts for n bytes of s that were acknowledged.
func (rq *retransmitQueue) addFreed(s *segment, n int) {
	rq.addBytes(s, -n)
	if !s.isSkips() {
		rq.freedBytes += uint64(n)
	}
}

// trimFrames takes n frames off the front of a segment and returns how many bytes of its
// buffer that concerns.
func (s *segment) trimFrames(n int) (size int) {
	s.frames -= n
	s.first += int32(n)
	if s.buffer == nil {
		return 0
	}
	for frame := range wire.Frames(s.buffer.Bytes()[s.from:s.to]) {
		if n == 0 {
			break
		}
		size += len(frame)
		n--
	}
	s.from += size
	return size
}

// dropBuffers gives up the memory of what is kept. It can then not be sent again. SKIPs stay: they take
// none.
func (rq *retransmitQueue) dropBuffers(out *completions) {
	for i := rq.head; i < len(rq.unacked); i++ {
		s := &rq.unacked[i]
		if s.buffer != nil && !s.isSkips() {
			out.buffers = append(out.buffers, s.buffer)
			s.buffer = nil
		}
	}
	rq.windowBytes -= rq.heldBytes
	rq.heldBytes = 0
}

// dropAll gives up everything that is not acknowledged.
func (rq *retransmitQueue) dropAll(out *completions) {
	rq.processAcks(out)
	for i := rq.head; i < len(rq.unacked); i++ {
		s := &rq.unacked[i]
		if s.buffer != nil {
			out.buffers = append(out.buffers, s.buffer)
		}
		out.events = s.appendEvent(out.events, EventUnacked, s.frames)
	}
	rq.windowBytes -= rq.heldBytes
	rq.heldBytes = 0
	rq.unacked, rq.head = nil, 0
	rq.acked = rq.written // an acknowledgement that is being read finds nothing to settle
}

// reportExpiredUnacked tells of frames that have expired after they were written, on a connection that is lost:
// nobody knows whether they have arrived, and nobody will. It passes over what the peer has read.
func (rq *retransmitQueue) reportExpiredUnacked(out *completions, match func(*segment) bool) {
	for i := rq.head; i < len(rq.unacked); i++ {
		if s := &rq.unacked[i]; !s.isSkips() && match(s) {
			out.events = s.appendEvent(out.events, EventUnacked, s.frames)
		}
	}
}

// canResend reports whether everything that is not acknowledged can be sent again, but for what stands
// before the counted frame of that number.
func (rq *retransmitQueue) canResend(from uint64) bool {
	pos := rq.acked
	for i := rq.head; i < len(rq.unacked); i++ {
		pos += uint64(rq.unacked[i].frames)
		if rq.unacked[i].buffer == nil && pos > from {
			return false
		}
	}
	return true
}
