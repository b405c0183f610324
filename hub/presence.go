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
	// coalesce is how long changes are gathered before watchers are told, so that ten
	// thousand clients who come at once are a few frames for each, not ten thousand.
	coalesce = 100 * time.Millisecond

	// remembered is how many changes a watcher may have missed and still be told only
	// those, in all of 1 MiB. Beyond, it is told who is there.
	remembered = 1 << 16
)

// presence tells watchers who comes and who goes. Its revision counts changes. The
// list and the changes are noted one after the other, so a watcher may be told
// again of somebody whom it has seen in the list already: it keeps a set.
type presence struct {
	wake chan struct{} // capacity 1: somebody is to be told something

	mu       sync.Mutex
	watched  bool // somebody has watched: from then on changes are noted
	revision uint64
	changes  []change // the last ones; that of revision is the last
	watchers map[*session]watcher
	asked    uint64 // how many WATCHes there were
}

// change is one client that came or went.
type change struct {
	id     uint64
	joined bool
}

// watcher is how much a session knows.
type watcher struct {
	since uint64
	all   bool   // it is to be told who is there
	told  bool   // it has had an answer
	asked uint64 // the number of its WATCH: an answer to one is none to the next, which may say the same
}

func (p *presence) init() {
	p.wake = make(chan struct{}, 1)
	p.watchers = make(map[*session]watcher)
	p.revision = 1 // 0 is what a watcher says who knows nothing
}

// note adds a change.
func (p *presence) note(id uint64, joined bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.watched {
		return
	}
	if len(p.changes) >= 2*remembered {
		p.changes = slices.Clone(p.changes[remembered:])
	}
	p.changes = append(p.changes, change{id, joined})
	p.revision++
	if len(p.watchers) > 0 {
		p.stir()
	}
}

func (p *presence) stir() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// listRange answers with a page of the list.
func (t *turn) listRange(f *socket.Frame) error {
	r, err := wire.ParseListRange(f.Payload)
	if err != nil {
		return err
	}
	if err := t.offer(); err != nil {
		return err
	}
	return t.fromList(func(ids []uint64) (n int, frame func([]byte) []byte) {
		page, more := pageOf(ids, r)
		return wire.ListPageLen(len(page)), func(b []byte) []byte { return wire.AppendListPage(b, uint64(len(ids)), more, page) }
	})
}

// pageOf returns the part of ids that was asked for, and whether there are larger
// ones.
func pageOf(ids []uint64, r wire.ListRange) (page []uint64, more bool) {
	at, there := slices.BinarySearch(ids, r.After)
	if there {
		at++
	}
	limit := int(r.Limit)
	if limit == 0 || limit > wire.PageMost {
		limit = wire.PageMost
	}
	end := min(len(ids), at+limit)
	return ids[at:end], end < len(ids)
}

// watch handles a WATCH.
func (t *turn) watch(f *socket.Frame) error {
	w, err := wire.ParseWatch(f.Payload)
	if err != nil {
		return err
	}
	if w.On && !t.session.mayWatch() {
		return t.refuse(0, wire.ErrorRefused, "this client may not ask who comes and goes")
	}
	p, most := &t.session.hub.presence, t.session.hub.config.MaxWatchers
	switch {
	case !w.On:
		p.leave(t.session)
	case !p.enter(t.session, w.Since, most):
		return t.refuse(0, wire.ErrorWatchers, fmt.Sprintf("%d clients watch already, which is as many as may", most))
	}
	return nil
}

// enter has a client told from now on, unless so many others are already.
func (p *presence) enter(s *session, since uint64, most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, watches := p.watchers[s]; !watches && len(p.watchers) >= most {
		return false
	}
	p.watched = true
	p.asked++
	p.watchers[s] = watcher{asked: p.asked, since: since, all: since == 0 || since > p.revision}
	p.stir()
	return true
}

// leave has a client told no more, if it was.
func (p *presence) leave(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, s)
}

// announce tells the watchers what has changed, at most once in coalesce. It ends
// when nobody reads any more.
func (h *Hub) announce() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-h.presence.wake:
		case <-h.quiet:
			return
		}
		pause.Reset(coalesce)
		select {
		case <-pause.C:
		case <-h.quiet:
			return
		}
		h.presence.tell(h)
	}
}

// tell brings all watchers up to this moment. One whose queue is full, or for whom
// there is no memory, is told more the next time.
func (p *presence) tell(h *Hub) {
	p.mu.Lock()
	now, missed := p.revision, p.changes
	todo := make(map[*session]watcher, len(p.watchers))
	for s, w := range p.watchers {
		if w.all || !w.told || w.since < now {
			todo[s] = w
		}
	}
	p.mu.Unlock()
	all := h.roster.IDs() // perhaps newer than now; what came in between is told again

	type news struct{ joined, left []uint64 }
	known := make(map[uint64]news) // by the revision since which it is news
	behind := false
	for s, w := range todo {
		gone := s.done.IsSet() || s.link.Load().detached.IsSet()
		ok := false
		switch {
		case gone:
		case w.all || now-w.since > uint64(len(missed)):
			ok = s.present(now, wire.PresenceSnapshot, all, nil)
		default:
			n, there := known[w.since]
			if !there {
				n.joined, n.left = sum(missed[uint64(len(missed))-(now-w.since):])
				known[w.since] = n
			}
			ok = s.present(now, 0, n.joined, n.left)
		}
		p.mu.Lock()
		if latest, watches := p.watchers[s]; watches && gone {
			delete(p.watchers, s)
		} else if watches && latest == w && ok { // it has not asked for anything else meanwhile
			p.watchers[s] = watcher{asked: w.asked, since: now, told: true}
		} else if watches {
			behind = true
		}
		p.mu.Unlock()
	}
	if behind {
		p.stir()
	}
}

// sum returns what changes come to: whoever came and went again is not in it.
func sum(changes []change) (joined, left []uint64) {
	type ends struct{ first, last bool }
	clients := make(map[uint64]ends)
	for _, c := range changes {
		if e, there := clients[c.id]; there {
			clients[c.id] = ends{e.first, c.joined}
		} else {
			clients[c.id] = ends{c.joined, c.joined}
		}
	}
	for id, e := range clients {
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

// present queues what one watcher is told, all of it or nothing. It reports whether
// there was room.
func (s *session) present(revision uint64, flags wire.PresenceFlags, joined, left []uint64) bool {
	size := wire.PresenceLen(len(joined), len(left)) + (len(joined)+len(left))/wire.PageMost*wire.PresenceLen(0, 0)
	buffer := s.account.TryDrawOverhead(size) // or one who always sends much would never be told
	if buffer == nil {
		return false
	}
	b, frames := buffer.Bytes()[:0], 0
	for more := true; more; frames++ {
		j := joined[:min(len(joined), wire.PageMost)]
		l := left[:min(len(left), wire.PageMost-len(j))]
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
	return s.offer(&socket.Piece{Buffer: buffer, To: len(b), Frames: frames, Terms: &modest}) == socket.Queued
}
