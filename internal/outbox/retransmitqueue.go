package outbox

// retransmitQueue holds the reliable frames that an outbox has written, until the peer
// acknowledges them. When a connection is lost, the outbox cannot know which of these frames
// have arrived. Guarded by the lock of the outbox.
type retransmitQueue struct {
	window       int // value of windowBytes at which writing is blocked
	written      uint64
	acked        uint64
	largestAcked uint64 // frames acknowledged by the peer; can be ahead of written
	unacked      []segment
	head         int
	heldBytes    int    // bytes of unacked whose buffers are still held
	windowBytes  int    // bytes that count against the window: held bytes, SKIPs, bookkeeping
	freedBytes   uint64 // held bytes that acknowledgements have freed

	movedTo *Outbox // the outbox that has taken over all frames; nil: none

	skipSupported bool // the peer supports SKIP
	windowBlocked bool // writing has stopped because the window is full
	detached      bool // there is no connection to write to
	resuming      bool // all unacknowledged frames will be retransmitted: they must not be dropped
}

// writeBlocked reports whether nothing can be written now.
func (rq *retransmitQueue) writeBlocked() bool { return rq != nil && (rq.windowBlocked || rq.detached) }

// add takes over a written segment, or the written frames of a segment. If the buffer of the
// segment is nil, only its events are kept.
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

// addBytes adds n bytes of s, which can be negative, to the counts of bytes.
func (rq *retransmitQueue) addBytes(s *segment, n int) {
	rq.windowBytes += n
	if !s.isSkips() {
		rq.heldBytes += n
	}
}

// processAcks removes the frames that are acknowledged and written. It appends their events
// and buffers to out.
func (rq *retransmitQueue) processAcks(out *completions) {
	for rq.acked < min(rq.largestAcked, rq.written) {
		s := &rq.unacked[rq.head]
		n := int(min(uint64(s.frames), rq.largestAcked-rq.acked))
		rq.acked += uint64(n)
		out.addEvent(s, EventAcked, n)
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

// releaseSpare releases the room for further segments if there is no segment.
func (rq *retransmitQueue) releaseSpare() {
	if len(rq.unacked) == 0 {
		rq.unacked = nil
	}
}

// addFreed accounts for n acknowledged bytes of s.
func (rq *retransmitQueue) addFreed(s *segment, n int) {
	rq.addBytes(s, -n)
	if !s.isSkips() {
		rq.freedBytes += uint64(n)
	}
}

// dropBuffers drops the memory of the unacknowledged frames. They can then not be
// retransmitted. SKIPs stay, because they take no memory.
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

// dropAll drops all unacknowledged frames.
func (rq *retransmitQueue) dropAll(out *completions) {
	rq.processAcks(out)
	for i := rq.head; i < len(rq.unacked); i++ {
		s := &rq.unacked[i]
		if s.buffer != nil {
			out.buffers = append(out.buffers, s.buffer)
		}
		out.addEvent(s, EventUnacked, s.frames)
	}
	rq.windowBytes -= rq.heldBytes
	rq.heldBytes = 0
	rq.unacked, rq.head = nil, 0
	rq.acked = rq.written // a concurrent Acknowledge then finds no frame to remove
}

// reportExpiredUnacked reports EventUnacked for the matching frames. They have expired after
// they were written on a connection that is lost: it will never be known whether they have
// arrived. Frames that the peer has read are passed over.
func (rq *retransmitQueue) reportExpiredUnacked(out *completions, match func(*segment) bool) {
	for i := rq.head; i < len(rq.unacked); i++ {
		if s := &rq.unacked[i]; !s.isSkips() && match(s) {
			out.addEvent(s, EventUnacked, s.frames)
		}
	}
}

// canResend reports whether all unacknowledged frames from the given number on can be
// retransmitted.
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
