package socket

import (
	"slices"
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// copyMost is the largest piece that is copied into an outbox, in bytes.
	// Above it, a reference and a place of its own in the vectored write are
	// cheaper than the copy (docs/decisions/0004).
	copyMost = 1 << 10

	// blockSize is how many bytes of copied frames lie together.
	blockSize = 16 << 10

	// segmentCost is what a queued reference counts in the outbox beyond its
	// bytes: the memory of its bookkeeping, so that a queue of tiny frames is
	// bounded as well.
	segmentCost = 64

	// segmentsMost is how many pieces an outbox holds.
	segmentsMost = 4 * vectorMost

	// vectorMost is how many pieces leave in one system call: 64 KiB of the smallest
	// that are not copied.
	vectorMost = 64
)

// segment is a run of whole frames in one buffer.
type segment struct {
	buffer     *body.Buffer
	from, to   int // what of the buffer is still to be sent
	frames     int
	deliveries int
	block      bool  // the outbox's own: more may be copied behind to
	counted    bool  // kept until it is acknowledged
	at         int16 // Piece.At
	index      int32 // which frame of its piece the first one is
	terms      *Terms
	ahead      bool // it has overtaken what is not
	firm       bool // it was sent before, at least in part, and counts: it will be sent again
	noted      bool // that it was written has been told
}

// weight returns what the segment counts in the outbox.
func (s *segment) weight() int {
	if s.block {
		return s.to - s.from
	}
	return s.to - s.from + segmentCost
}

// settled is what is to be done about frames that are through, or never will be,
// when no lock is held.
type settled struct {
	events  []event
	buffers []*body.Buffer // to be released
	tickets []*ticket      // whose piece waits no more
	lost    Tally          // not sent
}

// end does it.
func (d *settled) end() {
	for i, buffer := range d.buffers {
		buffer.Release()
		d.buffers[i] = nil
	}
	for i, t := range d.tickets {
		t.done()
		d.tickets[i] = nil
	}
	tell(d.events)
	clear(d.events)
	d.events, d.buffers, d.tickets, d.lost = d.events[:0], d.buffers[:0], d.tickets[:0], Tally{}
}

// written notes that the connection took the first frames of a segment, unless that has
// been told: one may be written again on another connection.
func (d *settled) written(s *segment, frames int) {
	if !s.noted {
		d.events = s.note(d.events, Written, frames)
	}
}

// discard gives up a segment that will not be sent.
func (d *settled) discard(s *segment, why Progress) {
	if s.noted && why == Unsent {
		why = Unheard
	}
	d.events = s.note(d.events, why, s.frames)
	d.lost.add(Tally{s.frames, s.deliveries, s.to - s.from})
	d.buffers = append(d.buffers, s.buffer)
}

// queue is what an outbox holds while it is not empty. The segments are guarded
// by the outbox's lock; the scratch space belongs to the flusher. While there is a flusher,
// or somebody has promised to start one, no other goroutine frees the queue.
type queue struct {
	outbox  *Outbox               // that it belongs to
	attempt func(fd uintptr) bool // tryWrite, bound once so that a write allocates nothing
	run     func()                // flush of the outbox, likewise

	segments []segment
	head     int
	sent     int // bytes of the first frame of the head segment that have left

	gathered int  // how many segments the flusher is writing
	expires  bool // some may expire

	direct  bool // whoever flushes must not wait
	stale   bool // what the next attempt would write was let go
	n       int  // outcome of the last attempt
	err     error
	vector  vector
	handed  int          // bytes that the connection was given by the last write, and has not said that it took
	pieces  [][]byte     // what the next write sends, where the connection takes no vector
	joined  *body.Buffer // what several of them are copied together in
	cork    *cork        // nil: no two records have left together yet
	settled settled
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
		q.attempt, q.run = q.tryWrite, func() { q.outbox.flush() }
	}
	q.outbox = o
	return q
}

func (q *queue) empty() bool { return q.head == len(q.segments) }

// free returns an empty queue to the pool, unless a rare flood of tiny pieces
// has made it large.
func (q *queue) free() {
	if cap(q.segments) > segmentsMost {
		return
	}
	clear(q.vector) // so that an idle queue keeps no body alive
	q.segments, q.head, q.sent = q.segments[:0], 0, 0
	q.gathered, q.handed, q.expires, q.outbox, q.err = 0, 0, false, nil, nil
	queues.Put(q)
}

// copyIn copies p behind the last segment if that is a block with room for it.
func (q *queue) copyIn(p *Piece) bool {
	if q.empty() {
		return false
	}
	last := &q.segments[len(q.segments)-1]
	if !last.block || last.counted != p.Counted || len(last.buffer.Bytes())-last.to < p.To-p.From {
		return false
	}
	last.to += copy(last.buffer.Bytes()[last.to:], p.Buffer.Bytes()[p.From:p.To])
	last.frames += p.Frames
	last.deliveries += p.Deliveries
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
	q.expires = q.expires || s.expires()
}

// overtake puts a segment before all but those that are being written and those that
// have overtaken before it.
func (q *queue) overtake(s *segment) {
	s.ahead = true
	at := q.head + q.busy()
	for at < len(q.segments) && q.segments[at].ahead {
		at++
	}
	q.segments = slices.Insert(q.segments, at, *s)
}

// leaders moves those segments to the front that overtake, and returns how many they are. One of which
// the connection has a part is like them: nothing else can be written before its rest. It must not be
// called while something is being written: what overtakes was put behind that, of which a write
// may have left some.
func (q *queue) leaders() int {
	at := q.head
	if q.sent > 0 {
		at++
	}
	for i := at; i < len(q.segments); i++ {
		if s := q.segments[i]; s.ahead {
			copy(q.segments[at+1:i+1], q.segments[at:i])
			q.segments[at] = s
			at++
		}
	}
	return at - q.head
}

// busy returns how many segments at the front nothing may be put before, or taken out of.
func (q *queue) busy() int {
	if q.sent > 0 { // the start of it has left
		return max(q.gathered, 1)
	}
	return q.gathered
}

// stamp has those segments changed that tell how much time they have left. What has expired is taken out already.
func (q *queue) stamp(now int64) {
	for i := q.head + q.busy(); i < len(q.segments); i++ {
		if s := &q.segments[i]; s.expires() && s.terms.Stamp != nil {
			s.terms.Stamp(s.buffer.Bytes()[s.from:s.to], s.terms.Expires-now)
		}
	}
}

// gather collects what the next write sends, of at most so many segments.
func (q *queue) gather(most int) {
	clear(q.vector)
	q.vector = q.vector[:0]
	sent := q.sent
	for i := q.head; i < len(q.segments) && len(q.vector) < min(most, vectorMost); i++ {
		s := &q.segments[i]
		q.vector = q.vector.add(s.buffer.Bytes()[s.from+sent : s.to])
		sent = 0
	}
	q.gathered = len(q.vector)
}

// gatherPieces is gather where the connection takes no vector, of at most so many bytes.
func (q *queue) gatherPieces(most, bytes int) {
	sent, size := q.sent, 0
	for i := q.head; i < len(q.segments) && len(q.pieces) < min(most, vectorMost) && size < bytes; i++ {
		s := &q.segments[i]
		p := s.buffer.Bytes()[s.from+sent : s.to]
		p = p[:min(len(p), bytes-size)]
		q.pieces = append(q.pieces, p)
		size += len(p)
		sent = 0
	}
	q.gathered = len(q.pieces)
}

// nextPiece takes what one Write of the connection sends off the pieces, at most so many bytes of
// one. Several little ones are copied together into a record of TLS.
func (q *queue) nextPiece(most int) []byte {
	p := q.pieces[0]
	if len(p) > most {
		q.pieces[0] = p[most:]
		return p[:most]
	}
	n, size := 1, len(p)
	for len(p) <= recordSize/2 && n < len(q.pieces) && size+len(q.pieces[n]) <= recordSize {
		size += len(q.pieces[n])
		n++
	}
	if n > 1 {
		if q.joined == nil {
			q.joined = body.Get(recordSize)
		}
		p = q.joined.Bytes()[:0]
		for _, one := range q.pieces[:n] {
			p = append(p, one...)
		}
	}
	q.pieces = q.pieces[n:]
	return p
}

// dropPieces gives back what gatherPieces and nextPiece have borrowed.
func (q *queue) dropPieces(all [][]byte) {
	clear(all) // so that an idle queue keeps no body alive
	q.pieces = all[:0]
	if q.joined != nil {
		q.joined.Release()
		q.joined = nil
	}
}

// advance takes n written bytes off the front, of what was gathered, and returns what they
// finished, and by how much the outbox is lighter. What is counted goes to kept, if there is one.
func (q *queue) advance(n int, kept *ledger) (done Tally, weight int) {
	done.Bytes = n
	weight = n
	n += q.sent
	q.sent = 0
	for n > 0 {
		s := &q.segments[q.head]
		if n < s.to-s.from {
			q.partly(s, n, &done, kept)
			return done, weight
		}
		n -= s.to - s.from
		done.Frames += s.frames
		done.Deliveries += s.deliveries
		if !s.block {
			weight += segmentCost
		}
		q.settled.written(s, s.frames)
		q.pass(s, kept)
		*s = segment{}
		q.head++
		q.gathered--
	}
	return done, weight
}

// partly accounts for the first n bytes of a segment that has not left whole.
func (q *queue) partly(s *segment, n int, done *Tally, kept *ledger) {
	through := *s
	through.frames, through.deliveries, through.to = 0, 0, s.from
	for frame := range wire.Frames(s.buffer.Bytes()[s.from : s.from+n]) {
		if carriesMessage(frame) {
			through.deliveries++
		}
		through.frames++
		through.to += len(frame)
		n -= len(frame)
	}
	q.sent = n
	if through.frames == 0 {
		return
	}
	done.Frames += through.frames
	done.Deliveries += through.deliveries
	q.settled.written(s, through.frames)
	s.frames -= through.frames
	s.deliveries -= through.deliveries
	s.index += int32(through.frames)
	s.from = through.to
	s.buffer.Retain()
	q.pass(&through, kept)
}

// pass parts with a segment that is written.
func (q *queue) pass(s *segment, kept *ledger) {
	if !s.counted || kept == nil {
		q.settled.buffers = append(q.settled.buffers, s.buffer)
		return
	}
	kept.keep(s)
}

// mayHave is that of the outbox.
func (q *queue) mayHave() (frames uint64) {
	left := q.sent + q.handed
	for i := q.head; i < len(q.segments); i++ {
		s := &q.segments[i]
		if left <= 0 && s.counted && !s.noted {
			break
		}
		for frame := range wire.Frames(s.buffer.Bytes()[s.from:s.to]) {
			if left <= 0 && !s.noted {
				break
			}
			if s.counted {
				frames++
			}
			left -= len(frame)
		}
	}
	return frames
}

// skip puts SKIPs in the place of segments for which gone returns true, where frames have their
// numbers already, but for what the peer has read. It returns by how much the outbox is lighter.
func (q *queue) skip(out *settled, gone func(*segment) bool) (weight int) {
	var room [1]segment // most take no more
	for i := q.head + q.busy(); i < len(q.segments); i++ {
		s := &q.segments[i]
		if !s.firm || s.isSkips() || !gone(s) {
			continue
		}
		why := Expired // it was begun, and never whole
		if s.noted {
			why = Unheard
		}
		out.events = s.note(out.events, why, s.frames)
		out.buffers = append(out.buffers, s.buffer)
		weight += s.weight()
		s.terms = nil
		parts := appendSkips(room[:0], *s)
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
func (q *queue) remove(why Progress, out *settled, gone func(*segment) bool) (weight int) {
	at := min(q.head+q.busy(), len(q.segments))
	left := at
	for ; at < len(q.segments); at++ {
		s := &q.segments[at]
		if !s.firm && gone(s) {
			weight += s.weight()
			out.discard(s, why)
			continue
		}
		q.segments[left] = *s
		left++
	}
	clear(q.segments[left:])
	q.segments = q.segments[:left]
	return weight
}
