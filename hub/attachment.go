package hub

import (
	"slices"
	"sync"
)

// attachState says how a connection of version 2 stands to its session:
//
//	attached ──────────────────────────► detached ◄────► claimed ──► moved
//	 │    │                               ▲    │
//	 │    └────► takeoverRequested ───────┘    └───────► expired
//	 │                   │
//	 └───────────────────┴────► closed
//
// A session that is resumed is attached to a new connection, which begins at attached.
type attachState uint8

const (
	// stateAttached: the connection serves the client.
	stateAttached attachState = iota

	// stateTakeoverRequested: another connection wants to resume the session, and waits until
	// this one is detached.
	stateTakeoverRequested

	// stateDetached: nothing is read or written any more, and the resume window is open.
	stateDetached

	// stateClaimed: another connection is resuming the session. It soon succeeds, or releases
	// the session, and waits for nothing meanwhile.
	stateClaimed

	// stateMoved: another connection has resumed the session.
	stateMoved

	// stateClosed: the connection was closed before it detached. Its session ends with it.
	stateClosed

	// stateExpired: the resume window has ended, and no connection has resumed the session. The
	// session ends with the connection.
	stateExpired
)

// hasLeft reports whether the connection is detached, and its session perhaps resumed since.
func (s attachState) hasLeft() bool {
	return s == stateDetached || s == stateClaimed || s == stateMoved || s == stateExpired
}

// nextStates holds the states that can follow each state.
var nextStates = [...][]attachState{
	stateAttached:          {stateTakeoverRequested, stateDetached, stateClosed},
	stateTakeoverRequested: {stateDetached, stateClosed},
	stateDetached:          {stateClaimed, stateExpired},
	stateClaimed:           {stateDetached, stateMoved},
	stateMoved:             {},
	stateClosed:            {},
	stateExpired:           {},
}

// attachment holds the attachState of a connection. The zero value is attached. All methods
// can be called concurrently.
type attachment struct {
	mu      sync.Mutex
	state   attachState
	changed chan struct{} // closed by the next transition; nil: no goroutine waits for it
}

// become changes the state to next. It returns false, and changes nothing, if next cannot
// follow the current state.
func (a *attachment) become(next attachState) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(nextStates[a.state], next) {
		return false
	}
	a.state = next
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
	return true
}

// load returns the current state.
func (a *attachment) load() attachState {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

// watch returns the current state, and a channel that the next transition closes.
func (a *attachment) watch() (state attachState, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.state, a.changed
}

// awaitClaim waits while the session is claimed, and returns the state that follows.
func (a *attachment) awaitClaim() attachState {
	for {
		state, changed := a.watch()
		if state != stateClaimed {
			return state
		}
		<-changed
	}
}

// closeUnlessMoved ends the time in which another connection can resume the session, and
// reports whether one has. A connection that is resuming it succeeds or fails first.
func (a *attachment) closeUnlessMoved() (moved bool) {
	for !a.become(stateClosed) && !a.become(stateExpired) {
		if state := a.awaitClaim(); len(nextStates[state]) == 0 {
			return state == stateMoved
		}
	}
	return false
}
