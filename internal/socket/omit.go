package socket

import (
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// Position is how far a peer that comes back has come, in counted frames.
type Position struct {
	Acked uint64 // those that its application has had
	Read  uint64 // those that have come to it whole: above Received only for a peer that knows SKIP
}

// WriteStarted reports whether the counted frame of that number carries a message of which the connection
// has taken at least a part, and which the peer has not acknowledged. 0 is the first frame that the
// peer was ever sent.
func (o *Outbox) WriteStarted(number uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	rq, q := o.retransmit, o.queue
	if rq == nil || number < rq.acked {
		return false
	}
	number -= rq.acked
	for i := rq.head; i < len(rq.unacked); i++ {
		s := &rq.unacked[i]
		if number < uint64(s.frames) {
			return s.carriesMessage(int(number))
		}
		number -= uint64(s.frames)
	}
	return number == 0 && q != nil && q.headSent > 0 && q.segments[q.head].reliable && q.segments[q.head].carriesMessage(0)
}

// carriesMessage reports whether the frame of that number in s carries a message. It does not if
// its memory was given up.
func (s *segment) carriesMessage(number int) bool {
	if s.buffer == nil {
		return false
	}
	for frame := range wire.Frames(s.buffer.Bytes()[s.from:s.to]) {
		if number == 0 {
			return carriesMessage(frame)
		}
		number--
	}
	return false
}

// Omitted counts messages that Move has not handed over.
type Omitted struct {
	Unreachable int // given up: see Attempts
	TooLarge    int // larger than the peer takes by now
}

// maxSkips is how many SKIPs one segment holds. A block of REPORTs, or one of copied DELIVERs, has
// fewer frames.
const maxSkips = 800

// skipFrames holds the SKIPs of all segments: however many stand for messages that were given up,
// they take no memory. It is never written, and its first reference never released.
var skipFrames = func() *body.Buffer {
	b := body.Get(maxSkips * wire.SkipLen)
	all := b.Bytes()[:0]
	for range maxSkips {
		all = wire.AppendSkip(all)
	}
	return b
}()

// isSkips reports whether s holds SKIPs. Those that have terms stand for messages that the peer has
// read and will acknowledge: they do not expire.
func (s *segment) isSkips() bool { return s.buffer == skipFrames }

// appendSkips appends SKIPs in the place of the frames of s, in as many segments as that takes.
// They hold references of their own: that of s stays with the caller.
func appendSkips(to []segment, s segment) []segment {
	s.deliveries = 0
	for s.frames > 0 {
		part := s
		part.frames = min(s.frames, maxSkips)
		part.buffer, part.from, part.to = skipFrames, 0, part.frames*wire.SkipLen
		skipFrames.Retain()
		to = append(to, part)
		s.frames -= part.frames
		s.first += int32(part.frames)
	}
	return to
}

// disposition is what becomes of a counted frame that is handed over to another outbox.
type disposition uint8

const (
	sendAsIs    disposition = iota // it is written, perhaps again
	alreadyRead                    // the peer has it: a SKIP is written, and is acknowledged in its place
	unreachable                    // it is given up: a SKIP is written
	tooLarge                       // the peer takes less: likewise, or nothing if it has no number yet
)

// filter tells frames that are written from those that are not.
type filter struct {
	number        uint64 // of the next frame
	read          uint64 // how many the peer has
	giveUp        bool   // the message behind those is given up
	skipSupported bool   // the peer knows SKIP
	maxFrame      int    // size of the largest frame with a message, in bytes; 0: any
	segments      []segment
	omitted       Omitted
	out           *completions
}

// omit takes out of what was handed over to o what the peer has, what is given up, and what is too
// large for it. It is called with mu held.
func (o *Outbox) omit(pos Position, giveUp bool, out *completions) Omitted {
	q := o.queue
	if q == nil || pos.Read == pos.Acked && !giveUp && o.maxFrame == 0 {
		return Omitted{}
	}
	f := filter{
		number: pos.Acked, read: pos.Read, giveUp: giveUp, skipSupported: o.retransmit.skipSupported, maxFrame: int(o.maxFrame),
		segments: make([]segment, 0, len(q.segments)+2), out: out,
	}
	for i := q.head; i < len(q.segments); i++ {
		s := &q.segments[i]
		o.weight -= s.weight()
		if s.reliable {
			f.add(s)
		} else {
			f.segments = append(f.segments, *s)
		}
	}
	clear(q.segments)
	q.segments, q.head = f.segments, 0
	for i := range q.segments {
		o.weight += q.segments[i].weight()
	}
	return f.omitted
}

// addBlockedFitting has a piece go on waiting for room in o, without what is too large for the peer. What
// is left of it waits in parts if need be. It is called with mu held.
func (o *Outbox) addBlockedFitting(send blockedSend, out *completions) Omitted {
	if send.batch.Deliveries == 0 || !o.exceedsMaxFrame(send.batch.Buffer, send.batch.From, send.batch.To) {
		o.blocked = append(o.blocked, send)
		return Omitted{}
	}
	f := filter{maxFrame: int(o.maxFrame), out: out}
	s := segmentOf(&send.batch)
	f.add(&s)
	for i := range f.segments {
		send.waiter.pending.Add(1)
		o.blocked = append(o.blocked, blockedSend{f.segments[i].batch(), send.waiter})
	}
	out.waiters = append(out.waiters, send.waiter)
	return f.omitted
}

// batch is the inverse of segmentOf. It takes over the reference to the buffer.
func (s *segment) batch() Batch {
	return Batch{
		Buffer: s.buffer, From: s.from, To: s.to, Frames: s.frames, Deliveries: s.deliveries,
		Reliable: s.reliable, Options: s.options, Receiver: int(s.receiver), First: int(s.first),
	}
}

// add puts a segment where it belongs, in parts if need be. It takes over the reference to the
// buffer, and gives it up.
func (f *filter) add(s *segment) {
	if end := f.number + uint64(s.frames); end <= f.read {
		f.number = end
		f.put(*s, alreadyRead) // its buffer may have been given up
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
	part.frames, part.deliveries, part.to = 0, 0, s.from
	for frame := range wire.Frames(s.buffer.Bytes()[s.from:s.to]) {
		next := f.dispositionOf(s, frame)
		if next != current {
			f.put(part, current)
			part.from, part.first, part.frames, part.deliveries = part.to, part.first+int32(part.frames), 0, 0
			current = next
		}
		f.number++
		part.frames++
		part.to += len(frame)
		if carriesMessage(frame) {
			part.deliveries++
		}
	}
	f.put(part, current)
}

// dispositionOf returns the disposition of the next frame.
func (f *filter) dispositionOf(s *segment, frame []byte) disposition {
	switch {
	case f.number < f.read:
		return alreadyRead
	case !carriesMessage(frame):
		return sendAsIs
	case f.giveUp && f.number == f.read:
		return unreachable
	case f.maxFrame > 0 && len(frame) > f.maxFrame && (!s.retransmission || f.skipSupported):
		return tooLarge
	}
	return sendAsIs
}

// put appends the frames of s to what is written: as they are, or as SKIPs. What is too large and
// has no number yet is dropped. Each segment that it appends has a reference of its own to its
// buffer; the one that s came with stays with the caller.
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
		f.out.events = s.appendEvent(f.out.events, EventUnreachable, s.frames)
		f.omitted.Unreachable += s.frames
		s.options = nil
	case tooLarge:
		f.out.events = s.appendEvent(f.out.events, EventTooLarge, s.frames)
		f.omitted.TooLarge += s.frames
		if !s.retransmission {
			return
		}
		s.options = nil
	}
	f.segments = appendSkips(f.segments, s)
}

// carriesMessage reports whether a frame does.
func carriesMessage(frame []byte) bool {
	t, _ := wire.Split(frame)
	return t == wire.TypeRelay || t == wire.TypeDeliver
}
