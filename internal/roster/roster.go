// Package roster knows who is connected: which member stands behind an id, and
// all ids in ascending order. It does not know what a member is, and it does not
// own one: who joins and leaves is the hub's decision.
//
// On the way of a message it is asked once per run of messages to the same
// receivers.
package roster

import (
	"slices"
	"sync"
)

// Roster is a set of members by id. The zero value is an empty one. All methods
// may be called concurrently.
type Roster[M comparable] struct {
	mu      sync.RWMutex
	members map[uint64]M
	ids     []uint64 // ascending
	shared  bool     // IDs handed out ids: what is in it must not change any more
	peak    int
}

// Join adds a member. An id that is already there gets the new member; the one that it had
// is returned, or the zero M.
func (r *Roster[M]) Join(id uint64, member M) (prev M) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members == nil {
		r.members = make(map[uint64]M)
	}
	prev, ok := r.members[id]
	if !ok {
		r.insert(id)
	}
	r.members[id] = member
	r.peak = max(r.peak, len(r.ids))
	return prev
}

// Leave removes the member with this id if it is this one, and reports whether it was.
func (r *Roster[M]) Leave(id uint64, member M) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if current, ok := r.members[id]; !ok || current != member {
		return false
	}
	delete(r.members, id)
	r.unshare()
	i, _ := slices.BinarySearch(r.ids, id)
	r.ids = slices.Delete(r.ids, i, i+1)
	return true
}

// Find writes the member behind each of ids to the same place in found, and the
// zero M where there is none. found must be at least as long as ids. One call is
// one moment: nobody joins or leaves between two ids.
func (r *Roster[M]) Find(ids []uint64, found []M) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for i, id := range ids {
		found[i] = r.members[id]
	}
}

// IDs returns all ids in ascending order. The slice never changes, whatever
// happens afterwards, and must not be changed.
func (r *Roster[M]) IDs() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shared = true
	return slices.Clip(r.ids)
}

// Size returns how many members there are, and the most that ever were.
func (r *Roster[M]) Size() (current, peak int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.ids), r.peak
}

// insert puts id in its place. A hub counts its ids up, so that is nearly always
// the end, where an append changes nothing of a slice that was handed out.
func (r *Roster[M]) insert(id uint64) {
	if n := len(r.ids); n == 0 || r.ids[n-1] < id {
		r.ids = append(r.ids, id)
		return
	}
	r.unshare()
	i, _ := slices.BinarySearch(r.ids, id)
	r.ids = slices.Insert(r.ids, i, id)
}

// unshare makes sure that nobody else reads r.ids.
func (r *Roster[M]) unshare() {
	if r.shared {
		r.ids = slices.Clone(r.ids)
		r.shared = false
	}
}
