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
	// coalesceDelay is how long changes are gathered before watchers are told, so that ten
	// thousand clients who come at once are a few frames for each, not ten thousand.
	coalesceDelay = 100 * time.Millisecond

	// maxHistory is how many changes a watcher may have missed and still be told only
	// those, in all of 1 MiB. Beyond, it is told who is there.
	maxHistory = 1 << 16
)

// presence tells watchers who comes and who goes. Its revision counts changes. The
// list and the changes are noted one after the other, so a watcher may be told
// again of somebody whom it has seen in the list already: it keeps a set.
type presence struct {
	wake chan struct{} // capacity 1: somebody is to be told something

	mu        sync.Mutex
	recording bool // somebody has watched: from then on changes are noted
	revision  uint64
	changes   []presenceChange // the last ones; that of revision is the last
	watchers  map[*conn]watcher
	watchSeq  uint64 // how many WATCHes there were
}

// presenceChange is one client that came or went.
type presenceChange struct {
	id     uint64
	joined bool
}

// watcher is how much a session knows.
type watcher struct {
	since         uint64
	needsSnapshot bool   // it is to be told who is there
	notified      bool   // it has had an answer
	seq           uint64 // the number of its WATCH: an answer to one is none to the next, which may say the same
}

func (p *presence) init() {
	p.wake = make(chan struct{}, 1)
	p.watchers = make(map[*conn]watcher)
	p.revision = 1 // 0 is what a watcher says who knows nothing
}

// record adds a change.
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

func (p *presence) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// handleListRange answers with a page of the list.
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

// listPage returns the part of ids that was asked for, and whether there are larger
// ones.
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
		return rb.sendError(0, wire.ErrorRefused, "this client may not ask who comes and goes")
	}
	p, maxWatchers := &rb.conn.hub.presence, rb.conn.hub.config.MaxWatchers
	switch {
	case !w.On:
		p.removeWatcher(rb.conn)
	case !p.addWatcher(rb.conn, w.Since, maxWatchers):
		return rb.sendError(0, wire.ErrorWatchers, fmt.Sprintf("%d clients watch already, which is as many as may", maxWatchers))
	}
	return nil
}

// addWatcher has a client told from now on, unless so many others are already.
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

// removeWatcher has a client told no more, if it was.
func (p *presence) removeWatcher(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, c)
}

// presenceLoop tells the watchers what has changed, at most once in coalesce. It ends
// when nobody reads any more.
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

// push brings all watchers up to this moment. One whose queue is full, or for whom
// there is no memory, is told more the next time.
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
	ids := h.roster.IDs() // perhaps newer than now; what came in between is told again

	type news struct{ joined, left []uint64 }
	diffs := make(map[uint64]news) // by the revision since which it is news
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
		} else if watching && current == w && sent { // it has not asked for anything else meanwhile
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

// netChanges returns what changes come to: whoever came and went again is not in it.
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

// sendPresence queues what one watcher is told, all of it or nothing. It reports whether
// there was room.
func (c *conn) sendPresence(revision uint64, flags wire.PresenceFlags, joined, left []uint64) bool {
	size := wire.PresenceLen(len(joined), len(left)) + (len(joined)+len(left))/wire.MaxPageIDs*wire.PresenceLen(0, 0)
	buffer := c.account.TryAcquireOverhead(size) // or one who always sends much would never be told
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
