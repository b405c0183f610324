package presence

// LocalChanges returns the net effect of the changes of single members after revision since, and
// the current revision: the ids of members that have joined and that have left, both ascending. If
// since is 0, or the roster does not remember all changes since then, it returns a snapshot
// instead: joined is then the ids of all single members. It remembers at least the last maxHistory
// changes from the first call on. The caller must not change the slices.
//
// LocalChanges is exact: a set to which all results are applied, in order, is LocalIDs at the
// moment of the last call.
func (r *roster[M]) LocalChanges(since uint64) (joined, left []uint64, snapshot bool, revision uint64) {
	local, covered, ids := r.localHistory(since)
	if !covered {
		return ids, nil, true, local.revision
	}
	joined, left = local.since(since)
	return joined, left, false, local.revision
}

// LocalRevision returns the number of the last change of the single members, as LocalChanges counts
// them.
func (r *roster[M]) LocalRevision() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.local.revision
}

// LocalChanged returns a channel with capacity 1, which receives an element when a single member
// joins or leaves, or is announced again, after the first call of LocalChanges. All calls return
// the same channel.
func (r *roster[M]) LocalChanged() <-chan struct{} { return r.localChanged }

// Reannounce makes the next LocalChanges contain id as joined, as if it were new, if it has a
// single member then.
func (r *roster[M]) Reannounce(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, single := r.members[id]; single {
		r.recordLocal(change{id: id, joined: true, again: true})
	}
}

// recordLocal records a change of the single members. It is called with mu held.
func (r *roster[M]) recordLocal(c change) {
	if !r.local.recording {
		return
	}
	r.local.add(c)
	select {
	case r.localChanged <- struct{}{}:
	default:
	}
}

// localHistory returns a copy of the history of single members, which records from now on, and
// whether it covers since. If not, it also returns the ids of all single members.
func (r *roster[M]) localHistory(since uint64) (local history, covered bool, ids []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	covered = r.local.recording && r.local.covers(since)
	r.local.recording = true
	if !covered {
		ids = r.share()
	}
	return r.local, covered, ids
}
