package presence

import (
	"sync"
	"time"
)

// coalesceDelay is how long changes are collected before they are sent to the watchers. Ten
// thousand clients that connect at once then cost a few frames per watcher instead of ten
// thousand.
const coalesceDelay = 100 * time.Millisecond

// Watcher is a connection that watches presence. It must be comparable.
type Watcher interface {
	// SendPresence queues the frames of u, all of them or none, and reports whether there was
	// room.
	SendPresence(u *Update) bool

	// Gone reports whether the connection has ended. It is then not sent anything any more.
	Gone() bool
}

// watchers sends the changes of the set of connected clients to those that watch it.
type watchers struct {
	wake chan struct{} // capacity 1: there is something to send to a watcher

	mu        sync.Mutex
	recording bool // set by the first Watch; without it no changes are recorded
	history   history
	states    map[Watcher]watchState
	watchSeq  uint64 // number of calls of Watch so far
}

// watchState is the state of one watcher.
type watchState struct {
	since         uint64
	needsSnapshot bool   // the next update is a snapshot
	notified      bool   // an update was sent after the Watch
	seq           uint64 // number of the Watch; a later Watch can have the same since
}

func (ws *watchers) init() {
	ws.wake = make(chan struct{}, 1)
	ws.states = make(map[Watcher]watchState)
	ws.history.revision = 1 // 0 in a WATCH means that the watcher has no state
}

// record adds a change to the history and wakes run if there are watchers.
func (ws *watchers) record(id uint64, joined bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if !ws.recording {
		return
	}
	ws.history.add(change{id, joined})
	if len(ws.states) > 0 {
		ws.signal()
	}
}

// signal wakes run. It never blocks.
func (ws *watchers) signal() {
	select {
	case ws.wake <- struct{}{}:
	default:
	}
}

// Watch adds or updates a watcher, which knows the changes up to revision since; 0: it knows
// none. Watch reports whether it did: it does not add a watcher when there are maxWatchers
// already.
func (ws *watchers) Watch(w Watcher, since uint64, maxWatchers int) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if _, watching := ws.states[w]; !watching && len(ws.states) >= maxWatchers {
		return false
	}
	ws.recording = true
	ws.watchSeq++
	ws.states[w] = watchState{seq: ws.watchSeq, since: since, needsSnapshot: since == 0 || since > ws.history.revision}
	ws.signal()
	return true
}

// Unwatch removes a watcher, and reports whether it was one.
func (ws *watchers) Unwatch(w Watcher) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	_, watching := ws.states[w]
	delete(ws.states, w)
	return watching
}

// run sends changes to the watchers, at most once per coalesceDelay, until stop is closed. list
// returns all connected clients.
func (ws *watchers) run(list func() []uint64, stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ws.wake:
		case <-stop:
			return
		}
		timer.Reset(coalesceDelay)
		select {
		case <-timer.C:
		case <-stop:
			return
		}
		ws.push(list)
	}
}

// push sends each watcher the changes up to the current revision. A watcher that has no room
// for them gets them in a later push.
func (ws *watchers) push(list func() []uint64) {
	pending, current := ws.pending()
	ids := list()                       // can be newer than current; the changes in between are sent again
	updates := make(map[uint64]*Update) // by the since of the watcher
	snapshot := &Update{revision: current.revision, snapshot: true, joined: ids}
	for w, state := range pending {
		gone := w.Gone()
		sent := false
		switch {
		case gone:
		case state.needsSnapshot || !current.covers(state.since):
			sent = w.SendPresence(snapshot)
		default:
			u := updates[state.since]
			if u == nil {
				u = current.updateSince(state.since)
				updates[state.since] = u
			}
			sent = w.SendPresence(u)
		}
		ws.finishPush(w, state, current.revision, gone, sent)
	}
}

// pending returns the watchers that do not have the current revision, and a copy of the
// history, of which no element changes afterwards.
func (ws *watchers) pending() (states map[Watcher]watchState, current history) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	states = make(map[Watcher]watchState, len(ws.states))
	for w, state := range ws.states {
		if state.needsSnapshot || !state.notified || state.since < ws.history.revision {
			states[w] = state
		}
	}
	return states, ws.history
}

// finishPush records what push has done for a watcher.
func (ws *watchers) finishPush(w Watcher, pushed watchState, revision uint64, gone, sent bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	current, watching := ws.states[w]
	switch {
	case !watching:
	case gone:
		delete(ws.states, w)
	case sent && current == pushed: // no other Watch has arrived meanwhile
		ws.states[w] = watchState{seq: current.seq, since: revision, notified: true}
	default:
		ws.signal() // try again
	}
}
