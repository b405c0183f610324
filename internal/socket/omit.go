package socket

import (
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// Position is the progress of a peer that resumes its session, in reliable frames since the
// start of the session.
type Position struct {
	Acked uint64 // frames acknowledged: the application of the peer has received them
	Read  uint64 // frames received whole; above Acked only for a peer that supports SKIP
}

// WriteStarted reports whether the reliable frame with the given number carries a message, has
// been accepted by the connection at least in part, and is unacknowledged. It returns false if
// DropUnacked has dropped the frame. Number 0 is the first reliable frame of the session.
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
			return s.messages && s.buffer != nil
		}
		number -= uint64(s.frames)
	}
	return number == 0 && q != nil && q.headSent > 0 && q.segments[q.head].reliable && q.segments[q.head].messages
}

// Omitted counts the messages that Move did not hand over.
type Omitted struct {
	Unreachable int // given up: see Attempts
	TooLarge    int // larger than the peer accepts now
}

// maxSkips is the maximum number of SKIP frames in one segment. A block of REPORT frames, or
// of copied DELIVER frames, has fewer frames.
const maxSkips = 800

// skipFrames holds the SKIP frames of all segments. SKIPs thus take no memory, however many
// messages they replace. The buffer is never written to, and its first reference is never
// released.
var skipFrames = func() *body.Buffer {
	b := body.Get(maxSkips * wire.SkipLen)
	all := b.Bytes()[:0]
	for range maxSkips {
		all = wire.AppendSkip(all)
	}
	return b
}()

// isSkips reports whether s holds SKIPs. SKIPs with options replace messages that the peer has
// read and will acknowledge: these SKIPs do not expire.
func (s *segment) isSkips() bool { return s.buffer == skipFrames }

// appendSkips appends SKIPs in place of the frames of s, in as many segments as necessary. The
// new segments hold their own references; the reference of s stays with the caller.
func appendSkips(to []segment, s segment) []segment {
	s.messages = false
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

// omit removes from the queue of o, after a handover, the frames that the peer has, the
// message that is given up, and the messages that are too large for the peer. It is called
// with mu held.
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

// addBlockedFitting blocks a send in o, without the messages that are too large for the peer.
// The remaining frames wait as several sends if necessary. It is called with mu held.
func (o *Outbox) addBlockedFitting(send blockedSend, out *completions) Omitted {
	if !send.batch.Messages || !o.exceedsMaxFrame(send.batch.Buffer, send.batch.From, send.batch.To) {
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
		Buffer: s.buffer, From: s.from, To: s.to, Frames: s.frames, Messages: s.messages,
		Reliable: s.reliable, Options: s.options, Receiver: int(s.receiver), First: int(s.first),
	}
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
