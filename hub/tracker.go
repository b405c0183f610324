package hub

import (
	"slices"
	"sync"
	"time"
)

// tracker knows every session from Accept to its last goroutine, whether or not
// it is listed. Once closed it refuses new ones, so that Shutdown misses none.
type tracker struct {
	reading sync.WaitGroup // sessions that may still read, and so offer something
	running sync.WaitGroup // sessions, and the hub's own goroutines

	mu           sync.Mutex
	sessions     map[*session]struct{}
	placed       int          // sessions that have a place
	resumable    int          // sessions of version 2
	detached     int          // those of them that have no connection
	provisionals provisionals // connections without a place
	closed       bool
}

// admission is the answer to add.
type admission int

const (
	added admission = iota
	full
	closed
)

func (t *tracker) init() { t.sessions = make(map[*session]struct{}) }

// add tracks s unless the tracker is closed. When most sessions have a place already, or s is
// provisional, it is added without one if it may come to resume. After added, the session owes
// reading.Done and remove.
func (t *tracker) add(s *session, most int) admission {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return closed
	}
	if !s.provisional && t.placed >= most {
		s.provisional, s.refusal = true, RefusedFull
	}
	switch {
	case !s.provisional:
		s.placed = true
		t.placed++
	case !t.admitsProvisional(s.since):
		return full
	default:
		t.provisionals.add(s)
	}
	t.sessions[s] = struct{}{}
	t.reading.Add(1)
	t.running.Add(1)
	return added
}

// admitsProvisional reports whether one more provisional connection may come in. If need be the
// oldest one is refused. It is called with mu held.
func (t *tracker) admitsProvisional(now time.Time) bool {
	if t.resumable == 0 {
		return false
	}
	if len(t.provisionals.at) < maxProvisional+t.detached {
		return true
	}
	oldest := t.provisionals.oldest(now.Add(-minProvisional))
	if oldest == nil {
		return false
	}
	t.provisionals.remove(oldest)
	oldest.conn.Interrupt()
	return true
}

// place gives a provisional connection a place. It returns false when that was refused already.
func (t *tracker) place(s *session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.provisionals.remove(s) {
		return false
	}
	s.placed = true
	t.placed++
	return true
}

// upgraded notes that s speaks version 2 from now on, and so can be resumed.
func (t *tracker) upgraded(s *session, l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.link.Store(l)
	t.resumable++
}

// detach notes that a session more, or one less, has no connection.
func (t *tracker) detach(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detached += n
}

// remove forgets s, which has ended.
func (t *tracker) remove(s *session) {
	t.mu.Lock()
	delete(t.sessions, s)
	t.provisionals.remove(s)
	if s.placed {
		t.placed--
	}
	if s.link.Load() != nil {
		t.resumable--
	}
	t.mu.Unlock()
	t.running.Done()
}

// close refuses new sessions from now on and returns those there are.
func (t *tracker) close() []*session {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	return t.all()
}

// all returns the sessions of this moment.
func (t *tracker) all() []*session { return t.appendTo(nil) }

// appendTo appends them.
func (t *tracker) appendTo(sessions []*session) []*session {
	t.mu.Lock()
	defer t.mu.Unlock()
	sessions = slices.Grow(sessions, len(t.sessions))
	for s := range t.sessions {
		sessions = append(sessions, s)
	}
	return sessions
}
