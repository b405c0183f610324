package hub

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// coalesceDelay is how long the hub collects changes before it writes them to the watchers.
	// Ten thousand clients that connect at once then cost a few frames per watcher instead of ten
	// thousand.
	coalesceDelay = 100 * time.Millisecond

	// maxHistory is the number of changes that the hub keeps at least. A watcher that has missed
	// more changes than the history holds gets a snapshot. The history holds up to twice as many
	// changes of 16 bytes each: 2 MiB.
	maxHistory = 1 << 16
)

// presence sends watchers the changes of the set of connected clients. Its revision counts
// these changes. The roster is updated before the change is recorded. A watcher can therefore
// receive the join of a client that is already in its snapshot, and must treat joins and
// leaves as operations on a set.
type presence struct {
	wake chan struct{} // capacity 1: there is something to send to a watcher

	mu        sync.Mutex
	recording bool // set by the first WATCH; without it no changes are recorded
	revision  uint64
	changes   []presenceChange // the last changes, in order; the last element has number revision
	watchers  map[*conn]watcher
	watchSeq  uint64 // number of WATCH frames so far
}

// presenceChange is one client that joined or left.
type presenceChange struct {
	id     uint64
	joined bool
}

// watcher is the state of one watching connection.
type watcher struct {
	since         uint64
	needsSnapshot bool   // the next PRESENCE is a snapshot
	notified      bool   // a PRESENCE was sent after the WATCH
	seq           uint64 // number of the WATCH; a later WATCH can have the same since
}

func (p *presence) init() {
	p.wake = make(chan struct{}, 1)
	p.watchers = make(map[*conn]watcher)
	p.revision = 1 // 0 in a WATCH means that the watcher has no state
}

// record adds a change to the history and wakes presenceLoop if there are watchers.
func (p *presence) record(id uint64, joined bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.recording {
		return
	}
	if len(p.changes) >= 2*maxHistory {
		p.changes = slices.Clone(p.changes[maxHistory:])
	}
	p.changes = append(p.changes, presenceChange{id, joined})
	p.revision++
	if len(p.watchers) > 0 {
		p.signal()
	}
}

// signal wakes presenceLoop. It never blocks.
func (p *presence) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// handleListRange answers a LIST_RANGE with a page of the ids of connected clients.
func (rb *readBatch) handleListRange(f *socket.Frame) error {
	r, err := wire.ParseListRange(f.Payload)
	if err != nil {
		return err
	}
	if err := rb.offerBatch(); err != nil {
		return err
	}
	return rb.appendListReply(func(ids []uint64) (n int, frame func([]byte) []byte) {
		page, more := listPage(ids, r)
		return wire.ListPageLen(len(page)), func(b []byte) []byte { return wire.AppendListPage(b, uint64(len(ids)), more, page) }
	})
}

// listPage returns the part of ids that r requests, and whether there are larger ids.
func listPage(ids []uint64, r wire.ListRange) (page []uint64, more bool) {
	start, ok := slices.BinarySearch(ids, r.After)
	if ok {
		start++
	}
	limit := int(r.Limit)
	if limit == 0 || limit > wire.MaxPageIDs {
		limit = wire.MaxPageIDs
	}
	end := min(len(ids), start+limit)
	return ids[start:end], end < len(ids)
}

// handleWatch handles a WATCH.
func (rb *readBatch) handleWatch(f *socket.Frame) error {
	w, err := wire.ParseWatch(f.Payload)
	if err != nil {
		return err
	}
	if w.On && !rb.conn.canWatch() {
		return rb.sendError(0, wire.ErrorRefused, "watching presence is not permitted")
	}
	p, maxWatchers := &rb.conn.hub.presence, rb.conn.hub.config.MaxWatchers
	switch {
	case !w.On:
		p.removeWatcher(rb.conn)
	case !p.addWatcher(rb.conn, w.Since, maxWatchers):
		return rb.sendError(0, wire.ErrorWatchers, fmt.Sprintf("too many presence watchers, the maximum is %d", maxWatchers))
	}
	return nil
}

// addWatcher adds or updates the watcher of c and reports whether it did: it does not add a
// watcher when there are maxWatchers already.
func (p *presence) addWatcher(c *conn, since uint64, maxWatchers int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, watching := p.watchers[c]; !watching && len(p.watchers) >= maxWatchers {
		return false
	}
	p.recording = true
	p.watchSeq++
	p.watchers[c] = watcher{seq: p.watchSeq, since: since, needsSnapshot: since == 0 || since > p.revision}
	p.signal()
	return true
}

// removeWatcher removes the watcher of c, if there is one.
func (p *presence) removeWatcher(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, c)
}

// presenceLoop sends changes to the watchers, at most once per coalesceDelay. It ends when no
// connection reads any more.
func (h *Hub) presenceLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-h.presence.wake:
		case <-h.readersDone:
			return
		}
		timer.Reset(coalesceDelay)
		select {
		case <-timer.C:
		case <-h.readersDone:
			return
		}
		h.presence.push(h)
	}
}

// push sends each watcher the changes up to the current revision. A watcher whose queue is
// full, or for which there is no memory, gets the changes in a later push.
func (p *presence) push(h *Hub) {
	p.mu.Lock()
	revision, changes := p.revision, p.changes
	pending := make(map[*conn]watcher, len(p.watchers))
	for c, w := range p.watchers {
		if w.needsSnapshot || !w.notified || w.since < revision {
			pending[c] = w
		}
	}
	p.mu.Unlock()
	ids := h.roster.IDs() // can be newer than revision; the changes in between are sent again

	type news struct{ joined, left []uint64 }
	diffs := make(map[uint64]news) // by the since of the watcher
	retry := false
	for c, w := range pending {
		disconnected := c.done.IsSet() || c.v2.Load().detached.IsSet()
		sent := false
		switch {
		case disconnected:
		case w.needsSnapshot || revision-w.since > uint64(len(changes)):
			sent = c.sendPresence(revision, wire.PresenceSnapshot, ids, nil)
		default:
			n, cached := diffs[w.since]
			if !cached {
				n.joined, n.left = netChanges(changes[uint64(len(changes))-(revision-w.since):])
				diffs[w.since] = n
			}
			sent = c.sendPresence(revision, 0, n.joined, n.left)
		}
		p.mu.Lock()
		if current, watching := p.watchers[c]; watching && disconnected {
			delete(p.watchers, c)
		} else if watching && current == w && sent { // no other WATCH has arrived meanwhile
			p.watchers[c] = watcher{seq: w.seq, since: revision, notified: true}
		} else if watching {
			retry = true
		}
		p.mu.Unlock()
	}
	if retry {
		p.signal()
	}
}

// netChanges returns the net effect of changes. A client that joined and left again, or left
// and joined again, is in neither result.
func netChanges(changes []presenceChange) (joined, left []uint64) {
	type ends struct{ first, last bool }
	byID := make(map[uint64]ends)
	for _, c := range changes {
		if e, ok := byID[c.id]; ok {
			byID[c.id] = ends{e.first, c.joined}
		} else {
			byID[c.id] = ends{c.joined, c.joined}
		}
	}
	for id, e := range byID {
		switch {
		case e.first != e.last:
		case e.last:
			joined = append(joined, id)
		default:
			left = append(left, id)
		}
	}
	slices.Sort(joined)
	slices.Sort(left)
	return joined, left
}

// sendPresence queues the PRESENCE frames for one watcher, all of them or none. It reports
// whether there was room.
func (c *conn) sendPresence(revision uint64, flags wire.PresenceFlags, joined, left []uint64) bool {
	size := wire.PresenceLen(len(joined), len(left)) + (len(joined)+len(left))/wire.MaxPageIDs*wire.PresenceLen(0, 0)
	// Overhead is exempt from the quota, which a client that sends much can exhaust permanently.
	buffer := c.account.TryAcquireOverhead(size)
	if buffer == nil {
		return false
	}
	b, frames := buffer.Bytes()[:0], 0
	for more := true; more; frames++ {
		j := joined[:min(len(joined), wire.MaxPageIDs)]
		l := left[:min(len(left), wire.MaxPageIDs-len(j))]
		joined, left = joined[len(j):], left[len(l):]
		more = len(joined)+len(left) > 0
		if more {
			flags |= wire.PresenceMore
		} else {
			flags &^= wire.PresenceMore
		}
		b = wire.AppendPresence(b, revision, flags, j, l)
		flags &^= wire.PresenceSnapshot
	}
	return c.offerAndFlush(&socket.Batch{Buffer: buffer, To: len(b), Frames: frames, Options: &rejectOptions}) == socket.Queued
}
