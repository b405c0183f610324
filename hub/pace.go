package hub

import (
	"math"
	"net"
	"time"

	"golang.org/x/time/rate"

	"github.com/sechlol/go-message-hub/internal/socket"
)

// pace is how fast a client may send. What is over is not refused: the client is not read until
// it is due, so that TCP carries the news.
type pace struct {
	*budget
	of budgetKey

	// What was charged at the last look.
	seenMessages uint64
	seenBytes    int64
}

// newPace returns that of a client at an address: what the hub allows, or less; nil when nothing bounds
// it. retirePace must follow.
func (h *Hub) newPace(from net.Addr, g *Grant) *pace {
	if g == nil {
		g = new(Grant)
	}
	l := limits{slower(h.config.MessageRate, g.MessageRate), slower(h.config.ByteRate, g.ByteRate)}
	if l == (limits{}) {
		return nil
	}
	of := budgetKey{subject: g.Subject, limits: l}
	if of.subject == "" {
		of.addr, _ = keyOf(from)
	}
	return &pace{budget: h.budgets.take(of, time.Now()), of: of}
}

// slower returns the slower of two rates; 0: as fast as it can.
func slower(a, b float64) float64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// chargePace charges the client with what it has sent since the last look, and returns how long nothing
// is to be read.
func (s *session) chargePace(now time.Time) time.Duration {
	p := s.pace
	messages, bytes := s.asked, s.conn.Brought()
	p.charge(int(messages-p.seenMessages), int(bytes-p.seenBytes), now)
	p.seenMessages, p.seenBytes = messages, bytes
	return p.debt(now)
}

// retirePace gives back what the client may still send, or owes, for when it comes back. It is called
// when the client is not read any more, and before anybody resumes its session.
func (s *session) retirePace() {
	if s.pace == nil {
		return
	}
	now := time.Now()
	s.chargePace(now)
	s.hub.budgets.put(s.pace.of, s.pace.budget, now)
	s.pace = nil
}

// resumePace goes on with what the client has left from the connection whose session it has resumed: a
// new connection begins with a budget of its own while the old one has not ended.
func (s *session) resumePace() {
	if p := s.pace; p != nil {
		now := time.Now()
		s.chargePace(now)
		s.hub.budgets.put(p.of, p.budget, now)
		p.budget = s.hub.budgets.take(p.of, now)
	}
}

// mayAskUntil returns up to which value of asked frames may be handled before the client has to rest: as many as its
// budget has, or if that is more what comes in a hundredth of a second, so that a fast one does not rest
// for each.
func (s *session) mayAskUntil() uint64 {
	if s.pace == nil || s.pace.messages == nil {
		return math.MaxUint64
	}
	return max(s.asked, s.pace.seenMessages) + uint64(atOnce(s.pace.messages, 1))
}

// mayReadAtOnce returns how many bytes may be read at once by the same rule, and 0 for any number.
func (s *session) mayReadAtOnce() int {
	if s.pace == nil || s.pace.bytes == nil {
		return 0
	}
	return atOnce(s.pace.bytes, minReadAtOnce)
}

// minReadAtOnce is how many bytes are read at once of a client that may send fewer. A frame that is larger is read as
// a whole in any case.
const minReadAtOnce = 1 << 10

func atOnce(l *rate.Limiter, least float64) int {
	least = max(least, float64(l.Limit())/100)
	if least < maxReadBytes { // otherwise it does not matter how much there is
		least = max(least, l.Tokens())
	}
	return int(min(least, maxReadBytes))
}

// maxReadBytes is how many bytes one read brings at most, without the rest of a frame.
const maxReadBytes = 64 << 10

// rest waits while the client has sent more than it may. The goroutine that reads calls it between two reads.
func (s *session) rest() error {
	if s.pace == nil {
		return nil
	}
	d := s.chargePace(time.Now())
	if d <= 0 {
		return nil
	}
	if err := s.conn.Stow(); err != nil { // memory to read into is not for those who are not read
		return err
	}
	return s.restFor(d)
}

// restAtFirst is rest for a client that has said who it is, and perhaps more at once. What it owes from an
// earlier connection is due before that is handled.
func (t *turn) restAtFirst() error {
	s := t.session
	if s.pace == nil {
		return nil
	}
	if d := s.chargePace(time.Now()); d > 0 {
		if err := t.offer(); err != nil {
			return err
		}
		t.dispatch.Drop() // WELCOME is to leave
		t.pause()
		if err := s.restFor(d); err != nil {
			return err
		}
	}
	t.until = s.mayAskUntil()
	return nil
}

// restFor waits for that long, and then until one more message may be sent, which it charges.
func (s *session) restFor(d time.Duration) error {
	s.hub.counters.paced.Add(1)
	s.hub.haste.complain(s.hub.config.Logger, "client slowed down", "reason", "faster than it may be", "client", s.id.Load(), "not_read_for", d.Round(time.Millisecond))
	s.flags.Or(flagResting)
	s.hub.budgets.rest(s, true)
	defer s.flags.And(^flagResting)
	defer s.hub.budgets.rest(s, false)
	var halted <-chan struct{}
	if l := s.link.Load(); l != nil {
		halted = l.halted.Done()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for d > 0 {
		select {
		case <-timer.C:
		case <-s.done.Done():
			return errEnded
		case <-halted:
			return socket.ErrInterrupted
		case <-s.hub.closing:
			return socket.ErrInterrupted
		}
		if d = s.pace.advance(time.Now()); d > 0 { // others have sent for the same budget meanwhile
			timer.Reset(d)
		}
	}
	s.pace.seenMessages, s.pace.seenBytes = s.pace.seenMessages+1, s.pace.seenBytes+1
	return nil
}
