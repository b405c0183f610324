package main

import "time"

// session is the time in which a client has one id.
type session struct {
	member   int
	hub      int // number of its hub
	id       uint64
	from, to time.Time // to zero: it goes on
	killed   time.Time // when its hub was killed, after which messages to it cannot arrive; zero: it was not
	breaks   []span    // times without a connection
}

// span is a time; zero to: until now.
type span struct{ from, to time.Time }

// overlaps reports whether two times have a moment in common.
func (s span) overlaps(from, to time.Time) bool {
	return !s.from.After(to) && (s.to.IsZero() || !s.to.Before(from))
}

// sessions are all sessions of all clients.
type sessions struct {
	current []*session // by client; nil: it has none
	all     map[uint64]*session
	old     []*session // those that have ended
}

func (s *sessions) init(members int) {
	s.current, s.all = make([]*session, members), make(map[uint64]*session)
}

// unchanged reports whether a client has had the same session since t.
func (s *sessions) unchanged(member int, t time.Time) bool {
	current := s.current[member]
	return current != nil && !current.from.After(t)
}

// beginSession records that a client has a new id.
func (l *ledger) beginSession(member, hub int, id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other := l.sessions.all[id]; other != nil {
		l.failLocked("client %d has id %d, which client %d had before", member, id, other.member)
	}
	l.endSessionLocked(member)
	s := &session{member: member, hub: hub, id: id, from: time.Now()}
	l.sessions.current[member], l.sessions.all[id] = s, s
}

// keepSession records that a client has a new session, at another hub, under the id that it had.
// What is sent to the id from now on can arrive.
func (l *ledger) keepSession(member, hub int, id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.sessions.current[member]
	if old == nil || old.id != id {
		l.failLocked("client %d has kept id %d, which it did not have", member, id)
		return
	}
	old.to = time.Now()
	s := &session{member: member, hub: hub, id: id, from: old.to}
	l.sessions.current[member], l.sessions.all[id] = s, s
}

// isGone reports whether the last session of an id was at a hub that was killed, or is at one of the
// silent hubs.
func (l *ledger) isGone(id uint64, silent hubs) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions.all[id]
	return s != nil && (!s.killed.IsZero() || silent&(1<<s.hub) != 0)
}

// endSession records that the session of a client has ended.
func (l *ledger) endSession(member int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endSessionLocked(member)
}

func (l *ledger) endSessionLocked(member int) {
	if s := l.sessions.current[member]; s != nil {
		s.to = time.Now()
		l.sessions.current[member] = nil
		l.sessions.old = append(l.sessions.old, s)
	}
}

// breakSession records that a client has lost its connection. Without a fault of its hub before,
// that is a problem.
func (l *ledger) breakSession(member int, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions.current[member]
	if s == nil {
		return
	}
	now := time.Now()
	s.breaks = append(s.breaks, span{from: now})
	if !l.disturbedLocked(now.Add(-disconnectDelay), now, 1<<s.hub, 0) {
		l.failLocked("client %d has lost its connection to hub %d without a fault: %v", member, s.hub+1, cause)
	}
}

// resumeSession records that a client has its session again.
func (l *ledger) resumeSession(member int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sessions.current[member]; s != nil && len(s.breaks) > 0 {
		s.breaks[len(s.breaks)-1].to = time.Now()
	}
}

// sessionOf returns the current session of a client that is connected, or nil.
func (l *ledger) sessionOf(member int) *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions.current[member]
	if s == nil || len(s.breaks) > 0 && s.breaks[len(s.breaks)-1].to.IsZero() {
		return nil
	}
	return s
}

// someOldSession returns one of the sessions that have ended, chosen by n; nil: none has.
func (l *ledger) someOldSession(n int) *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sessions.old) == 0 {
		return nil
	}
	return l.sessions.old[n%len(l.sessions.old)]
}

// killSessions records that the process of a hub was killed, and returns the ids that it had given.
func (l *ledger) killSessions(hub int) (ids map[uint64]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids = make(map[uint64]bool)
	for id, s := range l.sessions.all {
		if s.hub == hub && s.killed.IsZero() {
			s.killed = time.Now()
			ids[id] = true
		}
	}
	return ids
}

// idsAt returns all ids that a hub has given since its start.
func (l *ledger) idsAt(hub int) map[uint64]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make(map[uint64]bool)
	for id, s := range l.sessions.all {
		if s.hub == hub && s.killed.IsZero() {
			ids[id] = true
		}
	}
	return ids
}

// connectedIDs returns the ids of all clients that are connected.
func (l *ledger) connectedIDs() map[uint64]bool {
	ids := make(map[uint64]bool)
	for member := range l.records {
		if s := l.sessionOf(member); s != nil {
			ids[s.id] = true
		}
	}
	return ids
}
