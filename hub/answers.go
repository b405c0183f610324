package hub

import (
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
)

const (
	// answersAtOnce is how many bytes of answers such a client gets at once: as much as it has memory for
	// whatever others hold. Of longer answers it is one.
	answersAtOnce = spareLeast / 2

	// untakenMost is at how many answers that the connection has not taken a client of version 1 is not read on. With fewer, what it sends does not wait for
	// what others send it.
	untakenMost = 4

	// questionsAtOnce is how many bytes are read at once from a client that most likely asks: of its questions, little is left over then.
	questionsAtOnce = 1 << 10
)

// answers are those to what a client of version 1 asks. It is read on when it has taken them, but for a few: who asks and asks and
// does not listen holds next to nothing, waits for nothing that others wait for, and is given up when it stalls. In version 2 the
// client says what it has received, so acknowledgements must be read all the time: see turn.await.
type answers struct {
	terms  socket.Terms
	queued atomic.Int64  // frames that the connection has not taken
	heard  chan struct{} // capacity 1: it has taken enough, look again
	asked  bool          // something, in the last turn
	left   time.Time     // when it was waited for last with such memory
	mark   sample        // when its last read began to wait with memory meant for reading, or had earned that; zero: it has not
}

// answer queues answers for the client itself.
func (s *session) answer(piece *socket.Piece, d *socket.Dispatch) {
	a := s.answers
	if a == nil {
		a = &answers{heard: make(chan struct{}, 1)}
		a.terms = socket.Terms{Tracker: parted(a.parted), IfFull: socket.Insist}
		s.answers = a
	}
	a.asked = true
	a.queued.Add(int64(piece.Frames))
	piece.Terms = &a.terms
	if s.conn.Offer(piece, d) != socket.Queued {
		a.parted(piece.Frames)
	}
}

// parted notes that the connection has taken answers, or never will.
func (a *answers) parted(frames int) {
	if a.queued.Add(-int64(frames)) >= untakenMost {
		return
	}
	select {
	case a.heard <- struct{}{}:
	default:
	}
}

// readAtOnce returns how many bytes are to be read at once for the next turn; 0: as many as may be. Who has asked in the last turn most likely asks
// again, and one who has said nothing yet may.
func (s *session) readAtOnce() int {
	asks := !s.greeted
	if a := s.answers; a != nil {
		asks = a.asked
		a.asked, a.mark = false, sample{}
	}
	if asks {
		return questionsAtOnce
	}
	return 0
}

// waiting reports whether the client has to take answers before it is read on.
func (a *answers) waiting() bool { return a != nil && a.queued.Load() >= untakenMost }

// unheard reports whether the client does not take what it was answered, now that it can.
func (t *turn) unheard() bool {
	if !t.session.answers.waiting() {
		return false
	}
	t.dispatch.Flush()
	return t.session.answers.waiting()
}

// untilHeard waits until the client has taken enough of what it was answered. It must be called between turns, so that thousands
// may wait and hold little. A client that holds memory meant for reading, of which there is little and for which nobody can
// wait, must take as much as one who holds what others wait for.
func (s *session) untilHeard() error {
	if !s.answers.waiting() {
		return nil
	}
	s.conn.Press()
	defer s.conn.Ease()
	due := &time.Timer{} // never
	if s.conn.Shrink() {
		due = time.NewTimer(s.answers.due(s))
		defer func() {
			due.Stop()
			s.answers.left = time.Now()
		}()
	}
	for s.answers.waiting() {
		select {
		case <-s.answers.heard:
		case <-due.C:
			if !s.answers.earned(s) {
				s.end(ReasonSlow)
				return errEnded
			}
			due.Reset(s.answers.due(s))
		case <-s.done:
			return errEnded
		case <-s.hub.closing:
			return socket.ErrInterrupted
		}
	}
	return nil
}

// due returns when a client that holds memory meant for reading must have earned it.
func (a *answers) due(s *session) time.Duration {
	if now := time.Now(); a.mark.at.IsZero() {
		a.mark = newSample(s, now)
	} else if a.left.After(a.mark.at) {
		a.mark.at = a.mark.at.Add(now.Sub(a.left)) // since then it has owed nothing
	}
	a.left = time.Time{}
	return time.Until(a.mark.at.Add(s.hub.config.StallTimeout))
}

// earned reports whether it has.
func (a *answers) earned(s *session) bool {
	last, now := a.mark, newSample(s, time.Now())
	a.mark = now
	return !s.tooLittle(now.pulse.Sent-last.pulse.Sent, last, now)
}
