package presence

import "slices"

// maxPiece is the maximum number of ids for which the roster is locked at once. A Find that waits
// is next after the piece, which takes about 0.1 ms.
const maxPiece = 256

// UpdateGroup applies changes to a group: ids that have joined it, and ids that have left it. Both
// must be ascending without duplicates. An id that is in both is in the group afterwards. The
// first call for a group creates it.
//
// group is the member that Find returns for the ids of the group. Several groups can claim an id.
// The one that claimed it last counts, and a group can claim an id again that it has already. When
// its group leaves it, the id falls back to the group that claimed it before.
//
// Calls of UpdateGroup, ReplaceGroup and RemoveGroup for one group must not be concurrent. They do
// not keep the slices. Many ids are applied in pieces, between which other calls see the group in
// between.
func (r *Registry[M]) UpdateGroup(group M, joined, left []uint64) {
	r.updateGroup(r.openGroup(group), joined, left)
}

// ReplaceGroup makes ids, which must be ascending without duplicates, the ids of a group. It is
// UpdateGroup with the difference: an id that the group has already is not claimed again.
func (r *Registry[M]) ReplaceGroup(group M, ids []uint64) {
	h := r.openGroup(group)
	joined, left := difference(r.groupIDs(h), ids)
	r.updateGroup(h, joined, left)
}

// RemoveGroup removes a group and returns the ids that it had, in ascending order. The slice
// belongs to the caller.
func (r *Registry[M]) RemoveGroup(group M) (ids []uint64) {
	h, ok := r.lookupGroup(group)
	if !ok {
		return nil
	}
	ids = r.groupIDs(h)
	r.updateGroup(h, nil, ids)
	r.closeGroup(h)
	return ids
}

// updateGroup is UpdateGroup for a group that is open.
func (r *Registry[M]) updateGroup(h groupHandle, joined, left []uint64) {
	for piece := range slices.Chunk(left, maxPiece) {
		r.unclaim(h, piece)
		r.notify()
	}
	for piece := range slices.Chunk(joined, maxPiece) {
		r.claim(h, piece)
		r.notify()
	}
}

// GroupSize returns the number of ids that a group claims, 0 if there is no such group.
func (r *roster[M]) GroupSize(group M) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if h, ok := r.claims.handles[group]; ok {
		return r.claims.groups[h].size
	}
	return 0
}

// lookupGroup returns the handle of a group.
func (r *roster[M]) lookupGroup(group M) (h groupHandle, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	h, ok = r.claims.handles[group]
	return h, ok
}

// openGroup returns the handle of a group, which it creates if necessary.
func (r *roster[M]) openGroup(group M) groupHandle {
	if h, ok := r.lookupGroup(group); ok {
		return h
	}
	r.mergeMu.Lock()
	defer r.mergeMu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.hasGroups {
		r.hasGroups = true
		r.all = idList{base: r.share()}
	}
	return r.claims.open(group)
}

// closeGroup removes a group that claims no ids.
func (r *roster[M]) closeGroup(h groupHandle) {
	r.mergeMu.Lock()
	defer r.mergeMu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claims.close(h)
	if len(r.claims.handles) == 0 {
		r.hasGroups = false
		r.claims, r.all = claims[M]{}, idList{}
	}
}

// claim has a group claim at most maxPiece ids.
func (r *roster[M]) claim(h groupHandle, ids []uint64) {
	r.mu.Lock()
	defer r.unlock()
	for _, id := range ids {
		if !r.claims.add(id, h) {
			continue
		}
		if _, single := r.members[id]; !single {
			r.remote++
			r.record(id, true)
		}
	}
}

// unclaim removes the claims of a group to at most maxPiece ids.
func (r *roster[M]) unclaim(h groupHandle, ids []uint64) {
	r.mu.Lock()
	defer r.unlock()
	for _, id := range ids {
		if !r.claims.remove(id, h) {
			continue
		}
		if _, single := r.members[id]; !single {
			r.remote--
			r.record(id, false)
		}
	}
}

// groupIDs returns the ids of a group in ascending order. They are found among all ids: a list for
// each group would take another 8 bytes per id, and it is rare that all ids of a group are needed.
func (r *roster[M]) groupIDs(h groupHandle) []uint64 {
	r.mu.RLock()
	ids := make([]uint64, 0, r.claims.groups[h].size)
	r.mu.RUnlock()
	if cap(ids) == 0 {
		return ids
	}
	for piece := range slices.Chunk(r.IDs(), maxPiece) {
		ids = r.appendClaimed(ids, h, piece)
	}
	return ids
}

// appendClaimed appends those of at most maxPiece ids that a group claims.
func (r *roster[M]) appendClaimed(claimed []uint64, h groupHandle, ids []uint64) []uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, id := range ids {
		if r.claims.has(id, h) {
			claimed = append(claimed, id)
		}
	}
	return claimed
}

// difference returns the ids that are only in after, and those that are only in before. All are
// ascending.
func difference(before, after []uint64) (joined, left []uint64) {
	if len(before) == 0 {
		return after, nil
	}
	for len(before) > 0 && len(after) > 0 {
		switch b, a := before[0], after[0]; {
		case b == a:
			before, after = before[1:], after[1:]
		case b < a:
			left, before = append(left, b), before[1:]
		default:
			joined, after = append(joined, a), after[1:]
		}
	}
	return append(joined, after...), append(left, before...)
}
