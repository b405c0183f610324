package presence

import (
	"slices"
	"sync"
)

// roster maps client ids to members and keeps all ids in ascending order. The zero value is
// empty. All methods can be called concurrently.
type roster[M comparable] struct {
	mu      sync.RWMutex
	members map[uint64]M
	ids     []uint64 // ascending
	shared  bool     // ids was handed out; its elements must not change
	peak    int      // maximum of len(ids)
	changes history  // under the same lock as what it records, so that it is in the order of the changes
}

// init has the changes numbered from firstRevision.
func (r *roster[M]) init(firstRevision uint64) { r.changes.revision = firstRevision }

// Join adds a member and reports whether id is new. If id is in the roster already, Join
// replaces its member and returns the previous one.
func (r *roster[M]) Join(id uint64, member M) (prev M, isNew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members == nil {
		r.members = make(map[uint64]M)
	}
	prev, known := r.members[id]
	if !known {
		r.insert(id)
		r.changes.add(change{id: id, joined: true})
	}
	r.members[id] = member
	r.peak = max(r.peak, len(r.ids))
	return prev, !known
}

// Leave removes id if its member is member, and reports whether it did.
func (r *roster[M]) Leave(id uint64, member M) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if current, ok := r.members[id]; !ok || current != member {
		return false
	}
	delete(r.members, id)
	r.unshare()
	i, _ := slices.BinarySearch(r.ids, id)
	r.ids = slices.Delete(r.ids, i, i+1)
	r.changes.add(change{id: id})
	return true
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

// Find stores the member of ids[i] in found[i], or the zero M if there is none. found must be
// at least as long as ids. Find is atomic: no member joins or leaves during the call.
func (r *roster[M]) Find(ids []uint64, found []M) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for i, id := range ids {
		found[i] = r.members[id]
	}
}

// IDs returns all ids in ascending order. The roster never changes the slice afterwards, and
// the caller must not change it.
func (r *roster[M]) IDs() []uint64 {
	ids, _ := r.list()
	return ids
}

// list is IDs, and the revision at which the members had these ids.
func (r *roster[M]) list() (ids []uint64, revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shared = true
	return slices.Clip(r.ids), r.changes.revision
}

// Size returns the number of members and its maximum so far.
func (r *roster[M]) Size() (current, peak int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.ids), r.peak
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

// unshare makes r.ids a slice that no caller holds. It is called with mu held.
func (r *roster[M]) unshare() {
	if r.shared {
		r.ids = slices.Clone(r.ids)
		r.shared = false
	}
}
