package presence

import (
	"maps"
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

// watched is what watchers are told of.
type watched interface {
	// recorded returns the changes, of which no element changes afterwards.
	recorded() history

	// list returns the connected clients at a revision, in ascending order. The slice is not
	// changed afterwards.
	list() (ids []uint64, revision uint64)
}

// watchers sends the changes of the set of connected clients to those that watch it.
type watchers struct {
	wake chan struct{} // capacity 1: there is something to send to a watcher

	mu       sync.Mutex
	states   map[Watcher]watchState
	watchSeq uint64 // number of calls of watch so far
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
}

// notify wakes run, after a change, if there are watchers.
func (ws *watchers) notify() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
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

// watch is Registry.Watch. current is the current revision, or was a moment ago.
func (ws *watchers) watch(w Watcher, since, current uint64, maxWatchers int) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if _, watching := ws.states[w]; !watching && len(ws.states) >= maxWatchers {
		return false
	}
	ws.watchSeq++
	ws.states[w] = watchState{seq: ws.watchSeq, since: since, needsSnapshot: since == 0 || since > current}
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

// run sends the changes of source to the watchers, at most once per coalesceDelay, until stop is
// closed.
func (ws *watchers) run(source watched, stop <-chan struct{}) {
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
		ws.push(source)
	}
}

// push sends each watcher the changes up to the current revision. A watcher that has no room
// for them gets them in a later push.
func (ws *watchers) push(source watched) {
	states := ws.snapshot()
	current := source.recorded()        // after the states: no watcher knows a later revision
	updates := make(map[uint64]*Update) // by the since of the watcher
	snapshot := sync.OnceValue(func() *Update { return newSnapshot(source) })
	for w, state := range states {
		if !state.isPending(current.revision) {
			continue
		}
		if w.Gone() {
			ws.Unwatch(w)
			continue
		}
		var u *Update
		if state.needsSnapshot || !current.covers(state.since) {
			u = snapshot()
		} else if u = updates[state.since]; u == nil {
			u = newUpdate(current, state.since)
			updates[state.since] = u
		}
		ws.finishPush(w, state, u.revision, w.SendPresence(u))
	}
}

// isPending reports whether the watcher must be sent an update when the current revision is
// revision.
func (s watchState) isPending(revision uint64) bool {
	return s.needsSnapshot || !s.notified || s.since < revision
}

// snapshot returns a copy of the states.
func (ws *watchers) snapshot() map[Watcher]watchState {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return maps.Clone(ws.states)
}

// finishPush records what push has done for a watcher.
func (ws *watchers) finishPush(w Watcher, pushed watchState, revision uint64, sent bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	current, watching := ws.states[w]
	switch {
	case !watching:
	case sent && current == pushed: // no other Watch has arrived meanwhile
		ws.states[w] = watchState{seq: current.seq, since: revision, notified: true}
	default:
		ws.signal() // try again
	}
}
