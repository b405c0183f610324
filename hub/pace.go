package hub

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/sechlol/go-message-hub/internal/socket"
)

// pace is how fast a client may send. What is over is not refused: the client is not read until
// it is due, so that TCP carries the news.
type pace struct {
	messages *rate.Limiter // nil: as many as it likes
	bytes    *rate.Limiter // likewise

	// What was read at the last look.
	seenMessages uint64
	seenBytes    int64
}

// newPace returns that of a client: what the hub allows, or less; nil when nothing bounds it.
func newPace(c *Config, g *Grant) *pace {
	if g == nil {
		g = new(Grant)
	}
	messages, bytes := limiter(c.MessageRate, g.MessageRate), limiter(c.ByteRate, g.ByteRate)
	if messages == nil && bytes == nil {
		return nil
	}
	return &pace{messages: messages, bytes: bytes}
}

// limiter keeps to the slower of two rates. It lets one second's worth pass at once.
func limiter(a, b float64) *rate.Limiter {
	if a == 0 || b != 0 && b < a {
		a = b
	}
	if a == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(a), max(1, int(a)))
}

// delay returns how long nothing is to be read after so much has come in all.
func (p *pace) delay(messages uint64, bytes int64, now time.Time) time.Duration {
	d := max(over(p.messages, int(messages-p.seenMessages), now), over(p.bytes, int(bytes-p.seenBytes), now))
	p.seenMessages, p.seenBytes = messages, bytes
	return d
}

// over returns how long it takes until n more are due.
func over(l *rate.Limiter, n int, now time.Time) (d time.Duration) {
	if l == nil {
		return 0
	}
	for n > 0 { // one reservation is at most a burst
		part := min(n, l.Burst())
		d = l.ReserveN(now, part).DelayFrom(now)
		n -= part
	}
	return d
}

// rest waits while the client has sent more than it may. The one who reads calls it.
func (s *session) rest() error {
	if s.pace == nil {
		return nil
	}
	d := s.pace.delay(s.asked, s.conn.Brought(), time.Now())
	if d <= 0 {
		return nil
	}
	s.hub.counters.paced.Add(1)
	s.hub.haste.complain(s.hub.config.Logger, "client slowed down", "reason", "faster than it may be", "client", s.id.Load(), "not_read_for", d.Round(time.Millisecond))
	var halted <-chan struct{}
	if l := s.link.Load(); l != nil {
		halted = l.halted.Done()
	}
	if err := s.conn.Stow(); err != nil { // memory to read into is not for those who are not read
		return err
	}
	s.resting.Store(true)
	defer s.resting.Store(false)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.done.Done():
		return errEnded
	case <-halted:
	case <-s.hub.closing:
	}
	return socket.ErrInterrupted
}
