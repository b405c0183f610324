package presence

import (
	"slices"
	"sync"
)

// roster maps client ids to members, and keeps all ids in ascending order. An id has a single
// member, or groups that claim it, or both; the single member counts more. The zero value is
// empty. All methods can be called concurrently.
//
// Without groups, the list of all ids is that of the single members. With groups it is a list of
// its own, which is made when it is needed.
type roster[M comparable] struct {
	// mergeMu is held while the log of all is merged, and when hasGroups changes. It is taken
	// before mu, and never while mu is held.
	mergeMu sync.Mutex

	// mu guards the fields below. The histories are under the same lock as what they record, so
	// that they are in the order of the changes.
	mu      sync.RWMutex
	members map[uint64]M // single members
	ids     []uint64     // of single members, ascending
	shared  bool         // ids was handed out; its elements must not change
	peak    int          // maximum of len(ids)

	claims    claims[M]
	hasGroups bool
	all       idList  // the ids with a member, if hasGroups
	remote    int     // number of ids without a single member
	changes   history // of the ids with a member
	local     history // of the ids with a single member

	localChanged chan struct{} // capacity 1: local has a new change
}

func (r *roster[M]) init() {
	r.changes.revision, r.local.revision = 1, 1
	r.localChanged = make(chan struct{}, 1)
}

// startAt is Registry.StartAt.
func (r *roster[M]) startAt(revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes.revision, r.local.revision = revision, revision
}

// Join adds a single member and reports whether id had no member. If id has a single member
// already, Join replaces it. Join returns the previous member: a single one, or that of the group
// that claimed the id last.
func (r *roster[M]) Join(id uint64, member M) (prev M, isNew bool) {
	r.mu.Lock()
	defer r.unlock()
	if r.members == nil {
		r.members = make(map[uint64]M)
	}
	prev, known := r.members[id]
	r.members[id] = member
	if known {
		return prev, false
	}
	r.insert(id)
	r.peak = max(r.peak, len(r.ids))
	r.recordLocal(change{id: id, joined: true})
	if prev, known = r.claims.find(id); known {
		r.remote--
		return prev, false
	}
	r.record(id, true)
	return prev, true
}

// Leave removes the single member of id if it is member. It reports whether it did, and whether
// id has no member any more.
func (r *roster[M]) Leave(id uint64, member M) (left, isLast bool) {
	r.mu.Lock()
	defer r.unlock()
	if current, ok := r.members[id]; !ok || current != member {
		return false, false
	}
	delete(r.members, id)
	r.unshare()
	i, _ := slices.BinarySearch(r.ids, id)
	r.ids = slices.Delete(r.ids, i, i+1)
	r.recordLocal(change{id: id})
	if _, claimed := r.claims.find(id); claimed {
		r.remote++
		return true, false
	}
	r.record(id, false)
	return true, true
}

// record records that an id got its first member, or lost its last one. It is called with mu held.
func (r *roster[M]) record(id uint64, joined bool) {
	r.changes.add(change{id: id, joined: joined})
	if r.hasGroups {
		r.all.add(id, joined)
	}
}

// startRecording begins to record the changes, and returns the current revision.
func (r *roster[M]) startRecording() (revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes.recording = true
	return r.changes.revision
}

// recorded returns a copy of the history, of which no element changes afterwards.
func (r *roster[M]) recorded() history {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.changes
}

// unlock releases mu, and then merges the log of all if it is long.
func (r *roster[M]) unlock() {
	isLong := r.all.isLong()
	r.mu.Unlock()
	if isLong && r.mergeMu.TryLock() { // otherwise another goroutine does it
		defer r.mergeMu.Unlock()
		r.mergeLog()
	}
}

// Find stores the member of ids[i] in found[i], or the zero M if there is none. found must be
// at least as long as ids. Find is atomic: no member joins or leaves during the call.
func (r *roster[M]) Find(ids []uint64, found []M) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for i, id := range ids {
		found[i] = r.members[id]
	}
	if len(r.claims.byID) > 0 {
		r.findClaimed(ids, found)
	}
}

// findClaimed is Find for the ids without a single member. It is called with mu held.
func (r *roster[M]) findClaimed(ids []uint64, found []M) {
	var none M
	for i, id := range ids {
		if found[i] == none {
			found[i], _ = r.claims.find(id)
		}
	}
}

// IDs returns the ids of all members in ascending order, each once. The roster never changes the
// slice afterwards, and the caller must not change it. With groups, the first call after a change
// takes a time that is proportional to the number of ids, during which no lock is held that Find
// needs.
func (r *roster[M]) IDs() []uint64 {
	ids, _ := r.list()
	return ids
}

// list is IDs, and the revision at which the members had these ids.
func (r *roster[M]) list() (ids []uint64, revision uint64) {
	if ids, revision, ok := r.listed(); ok {
		return ids, revision
	}
	r.mergeMu.Lock()
	defer r.mergeMu.Unlock()
	if ids, revision, ok := r.listed(); ok { // another goroutine has merged the log
		return ids, revision
	}
	return r.mergeLog()
}

// listed is list if the ids are at hand.
func (r *roster[M]) listed() (ids []uint64, revision uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.hasGroups {
		return r.share(), r.changes.revision, true
	}
	return r.all.base, r.changes.revision, len(r.all.log) == 0
}

// mergeLog merges the log of all, and returns what list returns. It is called with mergeMu held.
func (r *roster[M]) mergeLog() (ids []uint64, revision uint64) {
	r.mu.RLock()
	all, revision := r.all, r.changes.revision
	r.mu.RUnlock()
	ids = slices.Clip(all.merged())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all.rebase(ids, len(all.log))
	return ids, revision
}

// LocalIDs returns the ids of the single members in ascending order. The roster never changes the
// slice afterwards, and the caller must not change it.
func (r *roster[M]) LocalIDs() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.share()
}

// Size returns the number of single members and its maximum so far.
func (r *roster[M]) Size() (current, peak int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.ids), r.peak
}

// Total returns the number of ids that have a member, single or of a group.
func (r *roster[M]) Total() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.ids) + r.remote
}

// insert inserts id into r.ids. A hub assigns ascending ids, and an append at the end does not
// change the elements of a shared slice. It is called with mu held.
func (r *roster[M]) insert(id uint64) {
	if n := len(r.ids); n == 0 || r.ids[n-1] < id {
		r.ids = append(r.ids, id)
		return
	}
	r.unshare()
	i, _ := slices.BinarySearch(r.ids, id)
	r.ids = slices.Insert(r.ids, i, id)
}

// share returns r.ids, whose elements then do not change any more. It is called with mu held.
func (r *roster[M]) share() []uint64 {
	r.shared = true
	return slices.Clip(r.ids)
}

// unshare makes r.ids a slice that no caller holds. It is called with mu held.
func (r *roster[M]) unshare() {
	if r.shared {
		r.ids = slices.Clone(r.ids)
		r.shared = false
	}
}
