package hub

import (
	"slices"
	"sync"
)

// tracker knows every session from Accept to its last goroutine, whether or not
// it is listed. Once closed it refuses new ones, so that Shutdown misses none.
type tracker struct {
	reading sync.WaitGroup // sessions that may still read, and so offer something
	running sync.WaitGroup // sessions, and the hub's own goroutines

	mu       sync.Mutex
	sessions map[*session]struct{}
	closed   bool
}

// admission is the answer to add.
type admission int

const (
	added admission = iota
	full
	closed
)

func (t *tracker) init() { t.sessions = make(map[*session]struct{}) }

// add tracks s unless the tracker is closed or has most sessions already. After
// added, the session owes reading.Done and remove.
func (t *tracker) add(s *session, most int) admission {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return closed
	case len(t.sessions) >= most:
		return full
	}
	t.sessions[s] = struct{}{}
	t.reading.Add(1)
	t.running.Add(1)
	return added
}

// remove forgets s, which has ended.
func (t *tracker) remove(s *session) {
	t.mu.Lock()
	delete(t.sessions, s)
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
