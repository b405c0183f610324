package socket

import (
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// Position is how far a peer that comes back has come, in counted frames.
type Position struct {
	Received uint64 // those that its application has had
	Read     uint64 // those that have come to it whole: above Received only for a peer that knows SKIP
}

// Begun reports whether the counted frame of that number carries a message of which the connection
// has taken at least a part, and which the peer has not acknowledged. 0 is the first frame that the
// peer was ever sent.
func (o *Outbox) Begun(number uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	l, q := o.ledger, o.queue
	if l == nil || number < l.acked {
		return false
	}
	number -= l.acked
	for i := l.head; i < len(l.kept); i++ {
		s := &l.kept[i]
		if number < uint64(s.frames) {
			return s.carriesMessage(int(number))
		}
		number -= uint64(s.frames)
	}
	return number == 0 && q != nil && q.sent > 0 && q.segments[q.head].counted && q.segments[q.head].carriesMessage(0)
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

// disposition is what becomes of a counted frame that is handed over to another outbox.
type disposition uint8

const (
	sends       disposition = iota // it is written, perhaps again
	alreadyRead                    // the peer has it: a SKIP is written, and is acknowledged in its place
	unreachable                    // it is given up: a SKIP is written
	oversized                      // the peer takes less: likewise, or nothing if it has no number yet
)

// filter tells frames that are written from those that are not.
type filter struct {
	number   uint64 // of the next frame
	read     uint64 // how many the peer has
	giveUp   bool   // the message behind those is given up
	skips    bool   // the peer knows SKIP
	maxFrame int    // size of the largest frame with a message, in bytes; 0: any
	rest     []segment
	out      *settled
}

// omit takes out of what was handed over to o what the peer has, what is given up, and what is too
// large for it. It is called with mu held.
func (o *Outbox) omit(at Position, giveUp bool, out *settled) {
	q := o.queue
	if q == nil || at.Read == at.Received && !giveUp && o.maxFrame == 0 {
		return
	}
	f := filter{
		number: at.Received, read: at.Read, giveUp: giveUp, skips: o.ledger.skips, maxFrame: int(o.maxFrame),
		rest: make([]segment, 0, len(q.segments)+2), out: out,
	}
	for i := q.head; i < len(q.segments); i++ {
		s := &q.segments[i]
		o.weight -= s.weight()
		if s.counted {
			f.add(s)
		} else {
			f.rest = append(f.rest, *s)
		}
	}
	clear(q.segments)
	q.segments, q.head = f.rest, 0
	for i := range q.segments {
		o.weight += q.segments[i].weight()
	}
}

// pushFitting queues a segment that waited for room, without what is too large for a peer that has
// come back since. It is called with mu held.
func (o *Outbox) pushFitting(s *segment, out *settled) {
	f := filter{maxFrame: int(o.maxFrame), out: out}
	f.add(s)
	for i := range f.rest {
		part := &f.rest[i]
		out.events = part.note(out.events, Entered, part.frames)
		o.push(part)
		o.weight += part.weight()
	}
}

// add puts a segment where it belongs, in parts if need be.
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
	part, of := *s, sends
	part.frames, part.deliveries, part.to = 0, 0, s.from
	for frame := range wire.Frames(s.buffer.Bytes()[s.from:s.to]) {
		next := f.judge(s, frame)
		if next != of {
			f.put(part, of)
			part.from, part.index, part.frames, part.deliveries = part.to, part.index+int32(part.frames), 0, 0
			of = next
		}
		f.number++
		part.frames++
		part.to += len(frame)
		if carriesMessage(frame) {
			part.deliveries++
		}
	}
	f.put(part, of)
}

// judge returns the disposition of the next frame.
func (f *filter) judge(s *segment, frame []byte) disposition {
	switch {
	case f.number < f.read:
		return alreadyRead
	case !carriesMessage(frame):
		return sends
	case f.giveUp && f.number == f.read:
		return unreachable
	case f.maxFrame > 0 && len(frame) > f.maxFrame && (!s.firm || f.skips):
		return oversized
	}
	return sends
}

// put notes what becomes of frames.
func (f *filter) put(s segment, of disposition) {
	if s.frames == 0 {
		return
	}
	switch of {
	case sends:
		s.buffer.Retain()
	case alreadyRead:
		f.out.written(&s, s.frames)
		s.firm, s.noted = true, true
		s.blank()
	case unreachable:
		f.out.events = s.note(f.out.events, Unreachable, s.frames)
		s.terms = nil
		s.blank()
	case oversized:
		f.out.events = s.note(f.out.events, Oversized, s.frames)
		if !s.firm {
			return
		}
		s.terms = nil
		s.blank()
	}
	f.rest = append(f.rest, s)
}

// blank puts SKIPs in the place of the frames of s. It leaves the reference to the buffer to the
// caller.
func (s *segment) blank() {
	s.deliveries = 0
	s.buffer = body.Get(s.frames * wire.SkipLen)
	all := s.buffer.Bytes()[:0]
	for range s.frames {
		all = wire.AppendSkip(all)
	}
	s.from, s.to = 0, len(all)
}

// carriesMessage reports whether a frame does.
func carriesMessage(frame []byte) bool {
	t, _ := wire.Split(frame)
	return t == wire.TypeRelay || t == wire.TypeDeliver
}
