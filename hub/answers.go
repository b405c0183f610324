package hub

import (
	"sync"

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

// answers are those to what a client of version 1 asks, while its connection has not taken all of them. The
// client is read on when it has taken them, but for a few: who asks and asks and does not listen holds next to nothing, waits for
// nothing that others wait for, and is given up when it stalls. In version 2 the client says what it has received, so
// acknowledgements must be read all the time: see turn.await.
type answers struct {
	session *session
	terms   socket.Terms
}

var answersPool = sync.Pool{New: func() any {
	a := new(answers)
	a.terms = socket.Terms{Tracker: a, IfFull: socket.Insist}
	return a
}}

// answer queues answers for the client itself.
func (s *session) answer(piece *socket.Piece, d *socket.Dispatch) {
	a := s.answers
	if a == nil {
		a = answersPool.Get().(*answers)
		a.session = s
		s.answers = a
	}
	s.asks = true
	piece.Terms, piece.At = &a.terms, 1
	if piece.To-piece.From > answersAtOnce {
		piece.At = untakenMost
	}
	s.untaken.Add(int32(piece.Frames * piece.At))
	if s.conn.Offer(piece, d) != socket.Queued {
		s.parted(piece.Frames * piece.At)
	}
}

// Progress is told what becomes of answers that count as so many each: see socket.Tracker.
func (a *answers) Progress(each int, what socket.Progress, _, frames int) {
	if what == socket.Written || what == socket.Unsent {
		a.session.parted(frames * each) // afterwards, a may belong to another session
	}
}

// parted notes that the connection has taken answers that count as n, or never will.
func (s *session) parted(n int) {
	if s.untaken.Add(-int32(n)) >= untakenMost {
		return
	}
	if heard := s.heard.Load(); heard != nil {
		select {
		case *heard <- struct{}{}:
		default:
		}
	}
}

// tidyAnswers gives back what is needed only while the connection has not taken all answers.
func (s *session) tidyAnswers() {
	if s.answers != nil && s.untaken.Load() == 0 {
		s.answers.session = nil
		answersPool.Put(s.answers)
		s.answers = nil
	}
}

// readAtOnce returns how many bytes are to be read at once for the next turn; 0: as many as may be. Who has asked in the last turn most likely asks
// again, and one who has said nothing yet may. One who has been idle gets no more either: a large buffer comes from the budget, and to draw
// it takes more than the stack of a new goroutine: see session.readLoop.
func (s *session) readAtOnce() int {
	asks := s.asks || !s.busy
	s.asks = false
	most := s.mayReadAtOnce()
	if asks && (most == 0 || most > questionsAtOnce) {
		return questionsAtOnce
	}
	return most
}

// waiting reports whether the client has to take answers before it is read on.
func (s *session) waiting() bool { return s.untaken.Load() >= untakenMost }

// unheard reports whether the client does not take what it was answered, now that it can.
func (t *turn) unheard() bool {
	if !t.session.waiting() {
		return false
	}
	t.dispatch.Flush()
	return t.session.waiting()
}

// untilHeard waits until the client has taken enough of what it was answered. It must be called between turns, so that thousands
// may wait and hold little. If much of what it has sent is left, that is charged to it like a message, and it must take its answers
// as fast as whoever holds what others wait for.
func (s *session) untilHeard() error {
	if !s.waiting() {
		return nil
	}
	s.conn.Press()
	defer s.conn.Ease()
	if err := s.conn.Stow(); err != nil {
		return err
	}
	heard := make(chan struct{}, 1) // it has taken enough, look again
	s.heard.Store(&heard)
	defer s.heard.Store(nil)
	for s.waiting() {
		select {
		case <-heard:
		case <-s.done.Done():
			return errEnded
		case <-s.hub.closing:
			return socket.ErrInterrupted
		}
	}
	return nil
}
