package presence

import "slices"

// maxHistory is the number of changes that a history keeps at least. A watcher that has missed
// more changes than the history holds gets a snapshot. The history holds up to twice as many
// changes of 16 bytes each: 2 MiB.
const maxHistory = 1 << 16

// history is the last changes of the set of connected clients. The revision counts the changes.
// A copy of a history stays valid when changes are added to the original.
type history struct {
	revision uint64
	changes  []change // in order; the last element has number revision
}

// change is one client that joined or left.
type change struct {
	id     uint64
	joined bool
}

// add adds a change.
func (h *history) add(c change) {
	if len(h.changes) >= 2*maxHistory {
		h.changes = slices.Clone(h.changes[maxHistory:])
	}
	h.changes = append(h.changes, c)
	h.revision++
}

// covers reports whether the history holds all changes after revision since, which must not be
// larger than the current one.
func (h *history) covers(since uint64) bool { return h.revision-since <= uint64(len(h.changes)) }

// updateSince returns the net effect of the changes after revision since. A client that joined
// and left again, or left and joined again, is not in it. covers(since) must be true.
func (h *history) updateSince(since uint64) *Update {
	type ends struct{ first, last bool }
	byID := make(map[uint64]ends)
	for _, c := range h.changes[uint64(len(h.changes))-(h.revision-since):] {
		if e, ok := byID[c.id]; ok {
			byID[c.id] = ends{e.first, c.joined}
		} else {
			byID[c.id] = ends{c.joined, c.joined}
		}
	}
	u := &Update{revision: h.revision}
	for id, e := range byID {
		switch {
		case e.first != e.last:
		case e.last:
			u.joined = append(u.joined, id)
		default:
			u.left = append(u.left, id)
		}
	}
	slices.Sort(u.joined)
	slices.Sort(u.left)
	return u
}
