package outbox

import "github.com/sechlol/go-message-hub/wire"

// Position is the progress of a peer that resumes its session, in reliable frames since the
// start of the session.
type Position struct {
	Acked uint64 // frames acknowledged: the application of the peer has received them
	Read  uint64 // frames received whole; above Acked only for a peer that supports SKIP
}

// Omitted counts the messages that Move did not hand over.
type Omitted struct {
	Unreachable int // given up: see Attempts
	TooLarge    int // larger than the peer accepts now
}

// disposition says how a reliable frame is handed over to another outbox.
type disposition uint8

const (
	sendAsIs    disposition = iota // the frame is written, perhaps again
	alreadyRead                    // the peer has the frame: a SKIP is written and acknowledged
	unreachable                    // the message is given up: a SKIP is written
	tooLarge                       // above maxFrame: a SKIP is written, or nothing if never sent
)

// filter separates the frames to write from the frames to replace or to drop.
type filter struct {
	number        uint64 // of the next frame
	read          uint64 // number of frames that the peer has received
	giveUp        bool   // the message directly behind these frames is given up
	skipSupported bool   // the peer supports SKIP
	maxFrame      int    // maximum size of a frame with a message, in bytes; 0: no limit
	segments      []segment
	omitted       Omitted
	out           *completions
}

// add puts the frames of a segment into f.segments, in parts if necessary. It takes over the
// reference to the buffer and releases it.
func (f *filter) add(s *segment) {
	if end := f.number + uint64(s.frames); end <= f.read {
		f.number = end
		f.put(*s, alreadyRead) // the buffer can be nil: its memory was dropped
	} else {
		f.split(s)
	}
	if s.buffer != nil {
		f.out.buffers = append(f.out.buffers, s.buffer)
	}
}

// split is add for frames of different dispositions.
func (f *filter) split(s *segment) {
	part, current := *s, sendAsIs
	part.frames, part.to = 0, s.from
	for frame := range wire.Frames(s.buffer.Bytes()[s.from:s.to]) {
		next := f.dispositionOf(s, frame)
		if next != current {
			f.put(part, current)
			part.from, part.first, part.frames = part.to, part.first+int32(part.frames), 0
			current = next
		}
		f.number++
		part.frames++
		part.to += len(frame)
	}
	f.put(part, current)
}

// dispositionOf returns the disposition of the next frame.
func (f *filter) dispositionOf(s *segment, frame []byte) disposition {
	switch {
	case f.number < f.read:
		return alreadyRead
	case !s.messages:
		return sendAsIs
	case f.giveUp && f.number == f.read:
		return unreachable
	case f.maxFrame > 0 && len(frame) > f.maxFrame && (!s.retransmission || f.skipSupported):
		return tooLarge
	}
	return sendAsIs
}

// put appends the frames of s to f.segments: as they are, or as SKIPs. Too large frames that
// were never sent are dropped. Each appended segment holds its own reference to its buffer;
// the reference of s stays with the caller.
func (f *filter) put(s segment, d disposition) {
	if s.frames == 0 {
		return
	}
	switch d {
	case sendAsIs:
		s.buffer.Retain()
		f.segments = append(f.segments, s)
		return
	case alreadyRead:
		f.out.addWritten(&s, s.frames)
		s.retransmission, s.writeReported = true, true
	case unreachable:
		f.out.addEvent(&s, EventUnreachable, s.frames)
		f.omitted.Unreachable += s.frames
		s.options = nil
	case tooLarge:
		f.out.addEvent(&s, EventTooLarge, s.frames)
		f.omitted.TooLarge += s.frames
		if !s.retransmission {
			return
		}
		s.options = nil
	}
	f.segments = appendSkips(f.segments, s)
}

// moveTo moves the unacknowledged frames to the empty queue of another outbox. They will be
// retransmitted before all frames that were only queued.
func (rq *retransmitQueue) moveTo(to *queue, next *retransmitQueue) {
	next.written, next.acked, next.largestAcked = rq.acked, rq.acked, rq.acked
	for i := rq.head; i < len(rq.unacked); i++ {
		s := &rq.unacked[i]
		s.retransmission, s.writeReported = true, true
		to.push(s)
	}
	rq.unacked, rq.head, rq.windowBytes, rq.heldBytes = nil, 0, 0, 0
}

// moveTo moves the queued frames to the queue of another outbox, without the first received
// reliable frames: the peer has received these before they were counted as written. Replies to
// requests of the old connection are dropped.
func (q *queue) moveTo(to *queue, next *retransmitQueue, received uint64, out *completions) {
	for i := q.head; i < len(q.segments); i++ {
		s := q.segments[i]
		if !s.reliable {
			out.discard(&s, EventLost)
			continue
		}
		if n := int(min(received, uint64(s.frames))); n > 0 {
			received -= uint64(n)
			next.written += uint64(n)
			next.acked += uint64(n)
			next.largestAcked += uint64(n)
			out.addWritten(&s, n)
			out.addEvent(&s, EventAcked, n)
			if n == s.frames {
				out.buffers = append(out.buffers, s.buffer)
				continue
			}
			s.trimFrames(n)
		}
		s.isBlock = false // other holders can refer to its buffer
		s.retransmission = s.retransmission || q.headSent > 0 && i == q.head
		to.push(&s)
	}
	clear(q.segments)
}

// apply replaces the reliable frames of a queue by those that the filter lets through.
func (f *filter) apply(q *queue) {
	f.segments = make([]segment, 0, len(q.segments)+2)
	for i := q.head; i < len(q.segments); i++ {
		s := &q.segments[i]
		q.weight -= s.weight()
		if s.reliable {
			f.add(s)
		} else {
			f.segments = append(f.segments, *s)
		}
	}
	clear(q.segments)
	q.segments, q.head = f.segments, 0
	for i := range q.segments {
		q.weight += q.segments[i].weight()
	}
}
