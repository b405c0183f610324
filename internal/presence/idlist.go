package presence

import "slices"

// minLog is the number of changes that the log of an idList can always have.
const minLog = 1024

// idList is a set of ids from which an ascending slice can be made outside the lock that guards
// it: a slice that does not change, and a log of the changes to it. The log is at most a
// sixteenth as long as the slice, with some more for the time in which it is merged: 1 byte per id.
type idList struct {
	base []uint64 // ascending; its elements never change
	log  []change // to base, in order; its elements never change
}

// add adds a change.
func (l *idList) add(id uint64, joined bool) { l.log = append(l.log, change{id: id, joined: joined}) }

// isLong reports whether the log should be merged.
func (l *idList) isLong() bool { return len(l.log) > max(minLog, len(l.base)/16) }

// merged returns all ids in ascending order.
func (l *idList) merged() []uint64 {
	if len(l.log) == 0 {
		return l.base
	}
	joined, left := netEffect(l.log)
	return merge(l.base, joined, left)
}

// rebase makes base the slice of l, which has the first n changes of the log.
func (l *idList) rebase(base []uint64, n int) { *l = idList{base, slices.Clone(l.log[n:])} }

// merge returns a new slice with ids and joined, without left. All of them are ascending.
func merge(ids, joined, left []uint64) []uint64 {
	merged := make([]uint64, 0, len(ids)+len(joined)-len(left))
	for len(joined)+len(left) > 0 {
		joins := len(left) == 0 || len(joined) > 0 && joined[0] < left[0]
		var id uint64
		if joins {
			id, joined = joined[0], joined[1:]
		} else {
			id, left = left[0], left[1:]
		}
		i, found := slices.BinarySearch(ids, id)
		merged = append(merged, ids[:i]...)
		if joins {
			merged = append(merged, id)
		}
		if found {
			i++
		}
		ids = ids[i:]
	}
	return append(merged, ids...)
}
