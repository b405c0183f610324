package hub

import (
	"sync/atomic"

	"github.com/sechlol/go-message-hub/internal/socket"
)

const (
	// answersAtOnce is how many bytes of answers a client of version 1 gets at once: as much as it has memory for
	// whatever others hold. Of longer answers it is one.
	answersAtOnce = spareLeast / 2

	// untakenMost is at how many answers that the connection has not taken such a client is not read on, or at one that is long. With fewer, what it
	// sends does not wait for what others send it.
	untakenMost = 4

	// questionsAtOnce is how many bytes are read at once from a client that most likely asks: of its questions, little is left over then.
	questionsAtOnce = 1 << 10
)

// answers are those to what a client of version 1 asks. It is read on when it has taken them, but for a few: who asks and asks and
// does not listen holds next to nothing, waits for nothing that others wait for, and is given up when it stalls. In version 2 the
// client says what it has received, so acknowledgements must be read all the time: see turn.await.
type answers struct {
	short  socket.Terms
	long   socket.Terms  // of an answer of more than answersAtOnce
	queued atomic.Int64  // those that the connection has not taken; a long one is as many as untakenMost
	heard  chan struct{} // capacity 1: it has taken enough, look again
	asked  bool          // something, in the last turn
}

// answer queues answers for the client itself.
func (s *session) answer(piece *socket.Piece, d *socket.Dispatch) {
	a := s.answers
	if a == nil {
		a = &answers{heard: make(chan struct{}, 1)}
		a.short = socket.Terms{Tracker: parted(a.parted), IfFull: socket.Insist}
		a.long = socket.Terms{Tracker: parted(func(frames int) { a.parted(frames * untakenMost) }), IfFull: socket.Insist}
		s.answers = a
	}
	a.asked = true
	piece.Terms = &a.short
	n := piece.Frames
	if piece.To-piece.From > answersAtOnce {
		piece.Terms = &a.long
		n *= untakenMost
	}
	a.queued.Add(int64(n))
	if s.conn.Offer(piece, d) != socket.Queued {
		a.parted(n)
	}
}

// parted notes that the connection has taken answers, or never will.
func (a *answers) parted(n int) {
	if a.queued.Add(-int64(n)) >= untakenMost {
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
		a.asked = false
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
// may wait and hold little. If much of what it has sent is left, that is charged to it like a message, and it must take its answers
// as fast as whoever holds what others wait for.
func (s *session) untilHeard() error {
	if !s.answers.waiting() {
		return nil
	}
	s.conn.Press()
	defer s.conn.Ease()
	if err := s.conn.Stow(); err != nil {
		return err
	}
	for s.answers.waiting() {
		select {
		case <-s.answers.heard:
		case <-s.done:
			return errEnded
		case <-s.hub.closing:
			return socket.ErrInterrupted
		}
	}
	return nil
}
