package client

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/sechlol/go-message-hub/wire"
)

// Presence is a change of the set of connected clients.
type Presence struct {
	Joined []uint64 // ascending ids
	Left   []uint64 // ascending ids
}

// presenceCache is the set of connected clients, while there are watchers.
type presenceCache struct {
	// Guarded by mu.
	mu       sync.Mutex
	conn     *conn // nil while disconnected
	watchers map[*watcher]bool
	known    map[uint64]bool
	revision uint64          // of known; 0: known is not filled
	snapshot map[uint64]bool // the received part of a snapshot; nil: none is being received
	err      error
}

// watcher is the state of one Watch: the changes that it has not yielded, left before changes.
// It is guarded by presenceCache.mu.
type watcher struct {
	changed chan struct{} // capacity 1
	left    []uint64      // clients of the last hub, after a restart
	changes map[uint64]bool
	err     error // why the hub refused
}

func (pc *presenceCache) init() {
	pc.watchers = make(map[*watcher]bool)
	pc.known = make(map[uint64]bool)
}

// addWatcher adds a watcher. The first watcher turns WATCH on.
func (pc *presenceCache) addWatcher() *watcher {
	w := &watcher{changed: make(chan struct{}, 1), changes: make(map[uint64]bool)}
	pc.mu.Lock()
	pc.watchers[w] = true
	for id := range pc.known {
		w.changes[id] = true
	}
	signal(w.changed)
	if pc.conn != nil && len(pc.watchers) == 1 {
		pc.conn.sendFrame(wire.AppendWatch(nil, wire.Watch{On: true}), &forceOptions)
	}
	pc.mu.Unlock() // after sendFrame: frames have the order of the calls
	return w
}

// removeWatcher removes a watcher. The last watcher turns WATCH off.
func (pc *presenceCache) removeWatcher(w *watcher) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if w.err != nil {
		return // failWatchers has removed it
	}
	delete(pc.watchers, w)
	if len(pc.watchers) > 0 {
		return
	}
	pc.reset()
	if pc.conn != nil {
		pc.conn.sendFrame(wire.AppendWatch(nil, wire.Watch{}), &forceOptions)
	}
}

// reset forgets the set of connected clients. It is called with mu held.
func (pc *presenceCache) reset() {
	clear(pc.known)
	pc.revision, pc.snapshot = 0, nil
}

// failWatchers ends all watchers with err, because the hub has refused WATCH. The next watcher
// sends WATCH again.
func (pc *presenceCache) failWatchers(err error) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	for w := range pc.watchers {
		w.err = err
		signal(w.changed)
	}
	clear(pc.watchers)
	pc.reset()
	if pc.conn != nil { // the ERROR can be for an earlier WATCH, and the hub may send PRESENCE
		pc.conn.sendFrame(wire.AppendWatch(nil, wire.Watch{}), &forceOptions)
	}
}

// next returns the next changes of w. It waits until ctx ends.
func (pc *presenceCache) next(ctx context.Context, w *watcher) (Presence, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Presence{}, err
		}
		pc.mu.Lock()
		left, changes, err := w.left, w.changes, cmp.Or(w.err, pc.err)
		hasChanges := len(changes) > 0
		switch {
		case len(left) > 0:
			w.left = nil
		case hasChanges:
			w.changes = make(map[uint64]bool)
		}
		pc.mu.Unlock()
		switch {
		case len(left) > 0:
			slices.Sort(left)
			return Presence{Left: left}, nil
		case hasChanges:
			return newPresence(changes), nil
		}
		if err != nil {
			return Presence{}, err
		}
		select {
		case <-w.changed:
		case <-ctx.Done():
			return Presence{}, ctx.Err()
		}
	}
}

func newPresence(changes map[uint64]bool) (p Presence) {
	for id, connected := range changes {
		if connected {
			p.Joined = append(p.Joined, id)
		} else {
			p.Left = append(p.Left, id)
		}
	}
	slices.Sort(p.Joined)
	slices.Sort(p.Left)
	return p
}

// handlePresence handles a PRESENCE frame.
func (pc *presenceCache) handlePresence(p *wire.Presence) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if len(pc.watchers) == 0 {
		return // sent before the hub had read WATCH off
	}
	if p.Flags&wire.PresenceSnapshot != 0 {
		pc.snapshot = make(map[uint64]bool)
	}
	for i := range p.Joined.Len() {
		pc.apply(p.Joined.At(i), true)
	}
	for i := range p.Left.Len() {
		pc.apply(p.Left.At(i), false)
	}
	if p.Flags&wire.PresenceMore != 0 {
		return
	}
	pc.revision = p.Revision
	if pc.snapshot != nil {
		pc.applySnapshot()
	}
	for w := range pc.watchers {
		signal(w.changed)
	}
}

// apply applies one client of a PRESENCE frame.
func (pc *presenceCache) apply(id uint64, connected bool) {
	if pc.snapshot != nil {
		pc.snapshot[id] = true
		return
	}
	pc.set(id, connected)
}

// applySnapshot replaces the set of connected clients by the snapshot.
func (pc *presenceCache) applySnapshot() {
	snapshot := pc.snapshot
	pc.snapshot = nil
	for id := range pc.known {
		if !snapshot[id] {
			pc.set(id, false)
		}
	}
	for id := range snapshot {
		pc.set(id, true)
	}
}

// set changes the state of one client, for all watchers.
func (pc *presenceCache) set(id uint64, connected bool) {
	if pc.known[id] == connected {
		return
	}
	if connected {
		pc.known[id] = true
	} else {
		delete(pc.known, id)
	}
	for w := range pc.watchers {
		if _, undone := w.changes[id]; undone {
			delete(w.changes, id)
		} else {
			w.changes[id] = connected
		}
	}
}

// detach is called when the connection has ended.
func (pc *presenceCache) detach() {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.conn, pc.snapshot = nil, nil
}

// attach continues on cn, and turns WATCH on again if there are watchers.
func (pc *presenceCache) attach(cn *conn, newHub bool) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.conn = cn
	if newHub {
		pc.markAllLeft()
	}
	if len(pc.watchers) > 0 {
		cn.sendFrame(wire.AppendWatch(nil, wire.Watch{On: true, Since: pc.revision}), &forceOptions)
	}
}

// markAllLeft marks all clients as left, for all watchers: at a new hub the same id is another
// client. It is called with mu held.
func (pc *presenceCache) markAllLeft() {
	for w := range pc.watchers {
		for id := range pc.known {
			if _, pending := w.changes[id]; !pending { // otherwise the watcher does not know the client
				w.left = append(w.left, id)
			}
		}
		for id, connected := range w.changes {
			if !connected {
				w.left = append(w.left, id)
			}
		}
		clear(w.changes)
		signal(w.changed)
	}
	pc.reset()
}

// close ends all watchers with err.
func (pc *presenceCache) close(err error) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if pc.err == nil {
		pc.err = err
	}
	for w := range pc.watchers {
		signal(w.changed)
	}
}
