package presence

import "slices"

// maxHistory is the number of changes that a history keeps at least. A reader that has missed more
// changes than the history holds gets a snapshot. The history holds up to twice as many changes of
// 16 bytes each: 2 MiB.
const maxHistory = 1 << 16

// history is the last changes of a set of clients. The revision counts the changes. A copy of a
// history stays valid when changes are added to the original. The zero value does not record.
type history struct {
	recording bool // without it no changes are recorded
	revision  uint64
	changes   []change // in order; the last element has number revision
}

// change is one client that joined or left.
type change struct {
	id     uint64
	joined bool
	again  bool // the client joins although it is in the set, so that others hear of it again
}

// add adds a change if the history is recording.
func (h *history) add(c change) {
	if !h.recording {
		return
	}
	if len(h.changes) >= 2*maxHistory {
		h.changes = slices.Clone(h.changes[maxHistory:])
	}
	h.changes = append(h.changes, c)
	h.revision++
}

// covers reports whether the history holds all changes after revision since. It does not if since
// is below the first revision or above the current one.
func (h *history) covers(since uint64) bool {
	return since <= h.revision && h.revision-since <= uint64(len(h.changes))
}

// since returns the net effect of the changes after a revision that the history covers.
func (h *history) since(revision uint64) (joined, left []uint64) {
	return netEffect(h.changes[uint64(len(h.changes))-(h.revision-revision):])
}

// netEffect returns the net effect of changes, in ascending order of the ids. A client that joined
// and left again, or left and joined again, is not in it, except that one which joined again while
// it was in the set, and is still in it, has joined.
func netEffect(changes []change) (joined, left []uint64) {
	if isAscending(changes) {
		return split(changes)
	}
	type effect struct{ before, after, again bool }
	byID := make(map[uint64]effect)
	for _, c := range changes {
		e, ok := byID[c.id]
		if !ok {
			e.before = c.again || !c.joined
		}
		byID[c.id] = effect{e.before, c.joined, e.again || c.again}
	}
	for id, e := range byID {
		switch {
		case e.after && (e.again || !e.before):
			joined = append(joined, id)
		case e.before && !e.after:
			left = append(left, id)
		}
	}
	slices.Sort(joined)
	slices.Sort(left)
	return joined, left
}

// isAscending reports whether changes are in ascending order of their ids, one for each. The
// changes of a large group are, and need no map.
func isAscending(changes []change) bool {
	for i := range changes[min(1, len(changes)):] {
		if changes[i].id >= changes[i+1].id {
			return false
		}
	}
	return true
}

// split returns the ids that join and those that leave.
func split(changes []change) (joined, left []uint64) {
	for _, c := range changes {
		if c.joined {
			joined = append(joined, c.id)
		} else {
			left = append(left, c.id)
		}
	}
	return joined, left
}
