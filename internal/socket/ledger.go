package socket

import "github.com/sechlol/go-message-hub/wire"

// ledger is what an outbox keeps of counted frames that were written, until the
// peer has acknowledged them: on a lost connection it cannot know what of them has
// arrived. It is guarded by the outbox's lock.
type ledger struct {
	window  int  // bytes kept at which writing pauses
	skips   bool // the peer knows SKIP
	written uint64
	acked   uint64
	claimed uint64 // acknowledged by the peer, perhaps before the writer has noted that it wrote
	kept    []segment
	head    int
	held    int    // bytes of kept, where their buffers are still held
	bytes   int    // that count for the window: held, SKIPs, and what the bookkeeping takes
	freed   uint64 // bytes that were held until they were acknowledged

	paused   bool    // the flusher has ended because the window is full
	detached bool    // there is no connection to write to
	promised bool    // all that is kept will be sent again, so it is not given up
	moved    *Outbox // which one has taken everything over
}

// rests reports whether nothing may be written now.
func (l *ledger) rests() bool { return l != nil && (l.paused || l.detached) }

// handOver gives what is kept to another outbox, to be sent again before anything
// that is queued.
func (l *ledger) handOver(to *Outbox) {
	to.ledger.written, to.ledger.acked, to.ledger.claimed = l.acked, l.acked, l.acked
	for i := l.head; i < len(l.kept); i++ {
		s := &l.kept[i]
		s.firm, s.noted = true, true
		to.push(s)
		to.weight += s.weight()
	}
	l.kept, l.head, l.bytes, l.held = nil, 0, 0, 0
}

// handOver does so with what is queued, without the first had frames, which have
// arrived although nobody noted that they were written. What answers requests of
// the old connection is dropped.
func (q *queue) handOver(to *Outbox, had uint64, out *settled) {
	for i := q.head; i < len(q.segments); i++ {
		s := q.segments[i]
		if !s.counted {
			out.discard(&s, Unsent)
			continue
		}
		if n := int(min(had, uint64(s.frames))); n > 0 {
			had -= uint64(n)
			to.ledger.written += uint64(n)
			to.ledger.acked += uint64(n)
			to.ledger.claimed += uint64(n)
			out.written(&s, n)
			out.events = s.note(out.events, Received, n)
			if n == s.frames {
				out.buffers = append(out.buffers, s.buffer)
				continue
			}
			s.skip(n)
		}
		s.block = false // others may refer to it
		s.firm = s.firm || q.sent > 0 && i == q.head
		to.push(&s)
		to.weight += s.weight()
	}
	clear(q.segments)
	q.segments, q.head, q.sent = q.segments[:0], 0, 0
	q.free()
}

// keep takes over a segment that is written, or the first frames of it. Its buffer
// may be nil: then only what happens to it is kept.
func (l *ledger) keep(s *segment) {
	l.written += uint64(s.frames)
	l.bytes += segmentCost
	if s.buffer != nil {
		l.hold(s, s.to-s.from)
	}
	if l.head > 0 && len(l.kept) == cap(l.kept) {
		n := copy(l.kept, l.kept[l.head:])
		clear(l.kept[n:])
		l.kept, l.head = l.kept[:n], 0
	}
	s.block = false
	l.kept = append(l.kept, *s)
}

// hold accounts for n bytes of s more, or less.
func (l *ledger) hold(s *segment, n int) {
	l.bytes += n
	if !s.isSkips() {
		l.held += n
	}
}

// settle drops what was acknowledged, as far as it is written. It appends what is
// to be told and released.
func (l *ledger) settle(out *settled) {
	for l.acked < min(l.claimed, l.written) {
		s := &l.kept[l.head]
		n := int(min(uint64(s.frames), l.claimed-l.acked))
		l.acked += uint64(n)
		out.events = s.note(out.events, Received, n)
		if n < s.frames {
			l.free(s, s.skip(n))
			return
		}
		if s.buffer != nil {
			l.free(s, s.to-s.from)
			out.buffers = append(out.buffers, s.buffer)
		}
		l.bytes -= segmentCost
		*s = segment{}
		l.head++
	}
	if l.head == len(l.kept) {
		l.kept, l.head = l.kept[:0], 0
	}
}

// free accounts for n bytes of s that were acknowledged.
func (l *ledger) free(s *segment, n int) {
	l.hold(s, -n)
	if !s.isSkips() {
		l.freed += uint64(n)
	}
}

// skip takes n frames off the front of a segment and returns how many bytes of its
// buffer that concerns.
func (s *segment) skip(n int) (size int) {
	s.frames -= n
	s.index += int32(n)
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

// forget gives up the memory of what is kept. It can then not be sent again. SKIPs stay: they take
// none.
func (l *ledger) forget(out *settled) {
	for i := l.head; i < len(l.kept); i++ {
		s := &l.kept[i]
		if s.buffer != nil && !s.isSkips() {
			out.buffers = append(out.buffers, s.buffer)
			s.buffer = nil
		}
	}
	l.bytes -= l.held
	l.held = 0
}

// bury gives up everything that is not acknowledged.
func (l *ledger) bury(out *settled) {
	l.settle(out)
	for i := l.head; i < len(l.kept); i++ {
		s := &l.kept[i]
		if s.buffer != nil {
			out.buffers = append(out.buffers, s.buffer)
		}
		out.events = s.note(out.events, Unheard, s.frames)
	}
	l.bytes -= l.held
	l.held = 0
	l.kept, l.head = nil, 0
	l.acked = l.written // an acknowledgement that is being read finds nothing to settle
}

// lapse tells of frames that have expired after they were written, on a connection that is lost:
// nobody knows whether they have arrived, and nobody will. It passes over what the peer has read.
func (l *ledger) lapse(out *settled, gone func(*segment) bool) {
	for i := l.head; i < len(l.kept); i++ {
		if s := &l.kept[i]; !s.isSkips() && gone(s) {
			out.events = s.note(out.events, Unheard, s.frames)
		}
	}
}

// whole reports whether everything that is not acknowledged can be sent again, but for what stands
// before the counted frame of that number.
func (l *ledger) whole(from uint64) bool {
	at := l.acked
	for i := l.head; i < len(l.kept); i++ {
		at += uint64(l.kept[i].frames)
		if l.kept[i].buffer == nil && at > from {
			return false
		}
	}
	return true
}
