package client

import "sync"

// connSlot holds the connection of a client, for goroutines that use it or wait for it.
type connSlot struct {
	// Guarded by mu.
	mu      sync.Mutex
	conn    *conn         // nil while disconnected
	changed chan struct{} // closed and replaced when conn changes
}

func (s *connSlot) init() { s.changed = make(chan struct{}) }

// get returns the connection, or nil while the client is disconnected, and a channel that is
// closed when that changes.
func (s *connSlot) get() (cn *conn, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn, s.changed
}

// current returns the connection, or nil while the client is disconnected.
func (s *connSlot) current() *conn {
	cn, _ := s.get()
	return cn
}

// set sets the connection; nil means that the client is disconnected.
func (s *connSlot) set(cn *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = cn
	close(s.changed)
	s.changed = make(chan struct{})
}
