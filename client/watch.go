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
// left, and then who is there: what is the same number may be another client. It wraps ErrMayNotWatch when the client may not ask, and ErrTooManyWatchers when the hub tells nobody more, which can
// also come after a lost connection: then others may have taken the place.
func (c *Client) Watch(ctx context.Context) iter.Seq2[Presence, error] {
	return func(yield func(Presence, error) bool) {
		if !c.newer() {
			yield(Presence{}, ErrVersion)
			return
		}
		w := c.watching.begin()
		defer c.watching.stop(w)
		for {
			p, err := c.watching.next(ctx, w)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// watching is what the client knows of who is connected, while somebody watches.
type watching struct {
	mu       sync.Mutex
	link     *link // nil: there is none now
	watchers map[*watcher]bool
	known    map[uint64]bool
	revision uint64          // 0: it knows nothing
	snapshot map[uint64]bool // the part of one that has come; nil: none is under way
	err      error
}

// watcher is one Watch, and what it has not yielded yet: left first, and then changes.
type watcher struct {
	some    chan struct{} // capacity 1
	left    []uint64      // who was there at a hub that is not the one of now
	changes map[uint64]bool
	err     error // why the hub does not tell
}

func (w *watching) init() {
	w.watchers = make(map[*watcher]bool)
	w.known = make(map[uint64]bool)
}

// begin adds a watcher. The first one has the hub tell.
func (w *watching) begin() *watcher {
	one := &watcher{some: make(chan struct{}, 1), changes: make(map[uint64]bool)}
	w.mu.Lock()
	w.watchers[one] = true
	for id := range w.known {
		one.changes[id] = true
	}
	signal(one.some)
	if w.link != nil && len(w.watchers) == 1 {
		w.link.say(wire.AppendWatch(nil, wire.Watch{On: true}), &insisting)
	}
	w.mu.Unlock() // so that what is said last is what holds
	return one
}

// stop takes a watcher out. After the last one the hub need not tell any more.
func (w *watching) stop(one *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one.err != nil {
		return // it is out already
	}
	delete(w.watchers, one)
	if len(w.watchers) > 0 {
		return
	}
	w.forget()
	if w.link != nil {
		w.link.say(wire.AppendWatch(nil, wire.Watch{}), &insisting)
	}
}

// forget is for when the hub does not tell any more. It is called with mu held.
func (w *watching) forget() {
	clear(w.known)
	w.revision, w.snapshot = 0, nil
}

// refuse ends those that there are: the hub does not tell. The next one asks it anew.
func (w *watching) refuse(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.watchers {
		one.err = why
		signal(one.some)
	}
	clear(w.watchers)
	w.forget()
	if w.link != nil { // perhaps it was about an earlier one, and the hub tells
		w.link.say(wire.AppendWatch(nil, wire.Watch{}), &insisting)
	}
}

// next waits for changes.
func (w *watching) next(ctx context.Context, one *watcher) (Presence, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Presence{}, err
		}
		w.mu.Lock()
		left, changes, err := one.left, one.changes, cmp.Or(one.err, w.err)
		some := len(changes) > 0
		switch {
		case len(left) > 0:
			one.left = nil
		case some:
			one.changes = make(map[uint64]bool)
		}
		w.mu.Unlock()
		switch {
		case len(left) > 0:
			slices.Sort(left)
			return Presence{Left: left}, nil
		case some:
			return presence(changes), nil
		}
		if err != nil {
			return Presence{}, err
		}
		select {
		case <-one.some:
		case <-ctx.Done():
			return Presence{}, ctx.Err()
		}
	}
}

func presence(changes map[uint64]bool) (p Presence) {
	for id, here := range changes {
		if here {
			p.Joined = append(p.Joined, id)
		} else {
			p.Left = append(p.Left, id)
		}
	}
	slices.Sort(p.Joined)
	slices.Sort(p.Left)
	return p
}

// take takes in what the hub tells.
func (w *watching) take(p *wire.Presence) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.watchers) == 0 {
		return // it was on its way
	}
	if p.Flags&wire.PresenceSnapshot != 0 {
		w.snapshot = make(map[uint64]bool)
	}
	for i := range p.Joined.Len() {
		w.note(p.Joined.At(i), true)
	}
	for i := range p.Left.Len() {
		w.note(p.Left.At(i), false)
	}
	if p.Flags&wire.PresenceMore != 0 {
		return
	}
	w.revision = p.Revision
	if w.snapshot != nil {
		w.replace()
	}
	for one := range w.watchers {
		signal(one.some)
	}
}

// note takes in one client.
func (w *watching) note(id uint64, here bool) {
	if w.snapshot != nil {
		w.snapshot[id] = true
		return
	}
	w.change(id, here)
}

// replace makes the snapshot what is known.
func (w *watching) replace() {
	now := w.snapshot
	w.snapshot = nil
	for id := range w.known {
		if !now[id] {
			w.change(id, false)
		}
	}
	for id := range now {
		w.change(id, true)
	}
}

// change notes where a client is, for all watchers.
func (w *watching) change(id uint64, here bool) {
	if w.known[id] == here {
		return
	}
	if here {
		w.known[id] = true
	} else {
		delete(w.known, id)
	}
	for one := range w.watchers {
		if _, undone := one.changes[id]; undone {
			delete(one.changes, id)
		} else {
			one.changes[id] = here
		}
	}
}

// detach says that there is no connection now.
func (w *watching) detach() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.link, w.snapshot = nil, nil
}

// attach goes on on a new connection, with the hub that it knows or another.
func (w *watching) attach(l *link, another bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.link = l
	if another {
		w.allLeft()
	}
	if len(w.watchers) > 0 {
		l.say(wire.AppendWatch(nil, wire.Watch{On: true, Since: w.revision}), &insisting)
	}
}

// allLeft notes that whoever was there has left: the same id is somebody else's at another hub. It is
// called with mu held.
func (w *watching) allLeft() {
	for one := range w.watchers {
		for id := range w.known {
			if _, told := one.changes[id]; !told { // otherwise the watcher does not know of it yet
				one.left = append(one.left, id)
			}
		}
		for id, here := range one.changes {
			if !here {
				one.left = append(one.left, id)
			}
		}
		clear(one.changes)
		signal(one.some)
	}
	w.forget()
}

// close ends all watches.
func (w *watching) close(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	for one := range w.watchers {
		signal(one.some)
	}
}
