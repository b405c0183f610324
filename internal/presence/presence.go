// Package presence knows which clients are connected: it finds members by id, lists their ids,
// and sends the changes to watchers.
//
// It does not know what a member is and does not own members: the hub decides when a member
// joins or leaves. It encodes the frames for a watcher, and the watcher queues them.
//
// On the path of a message the hub calls Registry.Find once per batch, with the ids of the
// receivers.
package presence

import (
	"slices"

	"github.com/sechlol/go-message-hub/wire"
)

// Registry is a set of members by id, whose changes can be watched. Create one with New. All
// methods can be called concurrently.
//
// A change is recorded for the watchers after it was made. A watcher can therefore receive the
// join of a client that is already in its snapshot, and must treat joins and leaves as
// operations on a set.
type Registry[M comparable] struct {
	roster[M]
	watchers
}

// New returns an empty registry. Run must be called for watchers to be sent anything.
func New[M comparable]() *Registry[M] {
	r := new(Registry[M])
	r.watchers.init()
	return r
}

// Join adds a member. If id is in the registry already, Join replaces its member and returns
// the previous one, which is no change for watchers. Otherwise it returns the zero M.
func (r *Registry[M]) Join(id uint64, member M) (prev M) {
	prev, isNew := r.roster.Join(id, member)
	if isNew {
		r.watchers.record(id, true)
	}
	return prev
}

// Leave removes id if its member is member, and reports whether it did.
func (r *Registry[M]) Leave(id uint64, member M) bool {
	if !r.roster.Leave(id, member) {
		return false
	}
	r.watchers.record(id, false)
	return true
}

// Run sends changes to the watchers, at most once per coalesceDelay, until stop is closed.
func (r *Registry[M]) Run(stop <-chan struct{}) { r.watchers.run(r.IDs, stop) }

// After returns the part of ids that is larger than id. ids must be ascending.
func After(ids []uint64, id uint64) []uint64 {
	start, found := slices.BinarySearch(ids, id)
	if found {
		start++
	}
	return ids[start:]
}

// Page returns the part of ids that r requests, and whether there are larger ids. ids must be
// ascending.
func Page(ids []uint64, r wire.ListRange) (page []uint64, more bool) {
	limit := int(r.Limit)
	if limit == 0 || limit > wire.MaxPageIDs {
		limit = wire.MaxPageIDs
	}
	page = After(ids, r.After)
	if len(page) <= limit {
		return page, false
	}
	return page[:limit], true
}
