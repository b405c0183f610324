package client

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/sechlol/go-message-hub/wire"
)

// Presence is a change in who is connected.
type Presence struct {
	Joined []uint64 // ids, ascending
	Left   []uint64 // likewise
}

// Watch yields who is connected, this client included, and then who comes and goes,
// as it happens: the hub gathers changes for 100 ms, and while the loop is busy they are
// gathered on, so that a slow one misses none but those that undo each other. Over a lost
// connection it goes on. It ends with one error: that of ctx, or why the client is over; in version 1
// that is ErrVersion. When the hub has started anew, or is another one, all who were there are told to have
// left, and then who is there: what is the same number may be another client. It wraps ErrWatchForbidden when the client may not ask, and ErrTooManyWatchers when the hub tells nobody more, which can
// also come after a lost connection: then others may have taken the place.
func (c *Client) Watch(ctx context.Context) iter.Seq2[Presence, error] {
	return func(yield func(Presence, error) bool) {
		if !c.isV2() {
			yield(Presence{}, ErrVersion)
			return
		}
		w := c.presence.addWatcher()
		defer c.presence.removeWatcher(w)
		for {
			p, err := c.presence.next(ctx, w)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// presenceCache is what the client knows of who is connected, while somebody watches.
type presenceCache struct {
	mu       sync.Mutex
	conn     *conn // nil: there is none now
	watchers map[*watcher]bool
	known    map[uint64]bool
	revision uint64          // 0: it knows nothing
	snapshot map[uint64]bool // the part of one that has come; nil: none is under way
	err      error
}

// watcher is one Watch, and what it has not yielded yet: left first, and then changes.
type watcher struct {
	changed chan struct{} // capacity 1
	left    []uint64      // who was there at a hub that is not the one of now
	changes map[uint64]bool
	err     error // why the hub does not tell
}

func (pc *presenceCache) init() {
	pc.watchers = make(map[*watcher]bool)
	pc.known = make(map[uint64]bool)
}

// addWatcher adds a watcher. The first one has the hub tell.
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
	pc.mu.Unlock() // so that what is said last is what holds
	return w
}

// removeWatcher takes a watcher out. After the last one the hub need not tell any more.
func (pc *presenceCache) removeWatcher(w *watcher) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if w.err != nil {
		return // it is out already
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

// reset is for when the hub does not tell any more. It is called with mu held.
func (pc *presenceCache) reset() {
	clear(pc.known)
	pc.revision, pc.snapshot = 0, nil
}

// failWatchers ends those that there are: the hub does not tell. The next one asks it anew.
func (pc *presenceCache) failWatchers(err error) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	for w := range pc.watchers {
		w.err = err
		signal(w.changed)
	}
	clear(pc.watchers)
	pc.reset()
	if pc.conn != nil { // perhaps it was about an earlier one, and the hub tells
		pc.conn.sendFrame(wire.AppendWatch(nil, wire.Watch{}), &forceOptions)
	}
}

// next waits for changes.
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

// handlePresence takes in what the hub tells.
func (pc *presenceCache) handlePresence(p *wire.Presence) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if len(pc.watchers) == 0 {
		return // it was on its way
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

// apply takes in one client.
func (pc *presenceCache) apply(id uint64, connected bool) {
	if pc.snapshot != nil {
		pc.snapshot[id] = true
		return
	}
	pc.set(id, connected)
}

// applySnapshot makes the snapshot what is known.
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

// set notes where a client is, for all watchers.
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

// detach says that there is no connection now.
func (pc *presenceCache) detach() {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.conn, pc.snapshot = nil, nil
}

// attach goes on on a new connection, with the hub that it knows or another.
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

// markAllLeft notes that whoever was there has left: the same id is somebody else's at another hub. It is
// called with mu held.
func (pc *presenceCache) markAllLeft() {
	for w := range pc.watchers {
		for id := range pc.known {
			if _, pending := w.changes[id]; !pending { // otherwise the watcher does not know of it yet
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

// close ends all watches.
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
