package hub

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// tracedMost is how many receivers the messages may have, all together, that are traced at
// once: 1 MiB of memory, 128 messages to 255 receivers.
const tracedMost = 32 << 10

// Trace is what the hub did with one message: see Config.Trace.
type Trace struct {
	Version   int       // of the protocol that its sender speaks
	Sender    uint64    // id
	Seq       uint64    // the sender's number for it; 0 in version 1, which has none
	Body      int       // its size in bytes
	Read      time.Time // when it had come in
	Receivers []Traced  // in the order in which the sender named them
}

// Traced is what became of a message for one receiver. Times count from Trace.Read.
type Traced struct {
	ID      uint64
	Fate    wire.Fate     // written, or why not; pending or queued: that was not clear within Config.ReportTimeout
	Queued  time.Duration // when it was in the receiver's queue, about; 0: it never was
	Decided time.Duration // when the receiver's socket took it, or it was clear that it would not; 0: never
}

// traces follow the messages of a run that were drawn by lot.
type traces struct {
	// Static after turn.trace.
	hub         *Hub
	first, step int // they are the frames first, first+step, … of the run

	mu    sync.Mutex
	timer *time.Timer // of those that take too long
	all   []Trace
	left  []int // for each: how many receivers are undecided; 0: it was told
	open  int   // how many were not
}

// trace draws by lot which messages of a run are traced. Mostly it returns nil: none.
func (t *turn) trace(ids []uint64, piece *socket.Piece) *traces {
	h := t.session.hub
	step := h.config.TraceOneIn
	first := rand.IntN(step)
	if first >= piece.Frames {
		return nil
	}
	n := h.mayTrace((piece.Frames-first+step-1)/step, len(ids))
	if n == 0 {
		return nil
	}
	s := &traces{hub: h, first: first, step: step, all: make([]Trace, 0, n), left: make([]int, n), open: n}
	at := 0
	for frame := range wire.Frames(piece.Buffer.Bytes()[piece.From:piece.To]) {
		if at == first+len(s.all)*step && len(s.all) < n {
			s.left[len(s.all)] = len(ids)
			s.all = append(s.all, t.newTrace(ids, frame))
		}
		at++
	}
	h.tracker.running.Add(1) // for the timer
	s.timer = time.AfterFunc(h.config.ReportTimeout, s.expire)
	return s
}

// newTrace returns the trace of one frame to receivers, of which nothing is known yet.
func (t *turn) newTrace(ids []uint64, frame []byte) Trace {
	receivers := make([]Traced, len(ids))
	for i, id := range ids {
		receivers[i].ID = id
	}
	d := wire.Deliver{Sender: t.session.id.Load()}
	version := 1
	kind, payload := wire.Split(frame)
	if d.Body = payload; kind == wire.TypeDeliver {
		d, _ = wire.ParseDeliver(payload) // this hub has made it
		version = 2
	}
	return Trace{Version: version, Sender: d.Sender, Seq: d.Seq, Body: len(d.Body), Read: t.time, Receivers: receivers}
}

// mayTrace returns how many of n messages with so many receivers may be traced, and counts
// the others.
func (h *Hub) mayTrace(n, receivers int) int {
	for i := range n {
		if h.traced.Add(int64(receivers)) > tracedMost {
			h.traced.Add(int64(-receivers))
			h.counters.untraced.Add(uint64(n - i))
			return i
		}
	}
	return n
}

// offered notes what an outbox did with the run.
func (s *traces) offered(p *socket.Piece, outcome socket.Outcome) {
	switch outcome {
	case socket.Queued:
		s.note(p.At, wire.FateQueued, p.First, p.Frames)
	case socket.Gone:
		s.note(p.At, wire.FateGone, p.First, p.Frames)
	case socket.Full:
		s.note(p.At, wire.FateFull, p.First, p.Frames)
	case socket.Late:
		s.note(p.At, wire.FateExpired, p.First, p.Frames)
	}
}

// progress is what an outbox tells of the run later: see socket.Tracker. Nothing that
// comes after it was written matters.
func (s *traces) progress(at int, what socket.Progress, first, frames int) {
	switch what {
	case socket.Entered:
		s.note(at, wire.FateQueued, first, frames)
	case socket.Written:
		s.note(at, wire.FateWritten, first, frames)
	case socket.Expired:
		s.note(at, wire.FateExpired, first, frames)
	case socket.Displaced:
		s.note(at, wire.FateFull, first, frames)
	case socket.Unsent, socket.Unheard:
		s.note(at, wire.FateGone, first, frames)
	case socket.Unreachable:
		s.note(at, wire.FateUnreachable, first, frames)
	case socket.Oversized:
		s.note(at, wire.FateTooLarge, first, frames)
	}
}

// note takes note of how far frames of the run came for one receiver, and tells of the
// messages for which it was the last one that was undecided.
func (s *traces) note(at int, fate wire.Fate, first, frames int) {
	s.mu.Lock()
	after := max(1, time.Since(s.all[0].Read))
	var over []Trace
	for j := max(0, (first-s.first+s.step-1)/s.step); j < len(s.all) && s.first+j*s.step < first+frames; j++ {
		r := &s.all[j].Receivers[at]
		if s.left[j] == 0 || r.Decided != 0 {
			continue
		}
		r.Fate = fate
		if r.Queued == 0 && fate <= wire.FateWritten { // perhaps it was written before Offer returned
			r.Queued = after
		}
		if fate == wire.FateQueued {
			continue
		}
		r.Decided = after
		if s.left[j]--; s.left[j] == 0 {
			over = append(over, s.all[j])
		}
	}
	s.open -= len(over)
	last := s.open == 0 && len(over) > 0
	s.mu.Unlock()
	s.tell(over)
	if last && s.timer.Stop() {
		s.hub.tracker.running.Done()
	}
}

// expire tells of what takes too long as it stands: somebody who reads nothing must not
// keep others from being traced.
func (s *traces) expire() {
	defer s.hub.tracker.running.Done()
	s.mu.Lock()
	var over []Trace
	for j := range s.all {
		if s.left[j] > 0 {
			s.left[j] = 0
			over = append(over, s.all[j])
		}
	}
	s.open = 0
	s.mu.Unlock()
	s.tell(over)
}

// tell hands traces over that nobody changes any more.
func (s *traces) tell(over []Trace) {
	for _, t := range over {
		s.hub.traced.Add(int64(-len(t.Receivers)))
		if !s.hub.config.Trace(t) {
			s.hub.counters.untraced.Add(1)
		}
	}
}
