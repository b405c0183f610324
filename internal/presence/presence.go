// Package presence knows which clients are connected: it finds members by id, lists their ids,
// and sends the changes to watchers.
//
// A member stands for one client, or, as a group, for many: the hub has a member of its own for
// each client of its own, and a group for the clients of each other hub.
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
// methods can be called concurrently, with one exception: see UpdateGroup.
//
// An id is in the registry as long as it has a single member, or a group claims it. Find returns
// the single member, otherwise the group that claimed the id last. Watchers learn when an id comes
// or goes, and not when its member changes.
type Registry[M comparable] struct {
	roster[M]
	watchers
}

// New returns an empty registry. Run must be called for watchers to be sent anything.
//
// The changes are numbered from 1.
func New[M comparable]() *Registry[M] {
	r := new(Registry[M])
	r.roster.init()
	r.watchers.init()
	return r
}

// StartAt has the changes numbered from revision, which must not be 0: that would be a watcher that
// knows nothing. A watcher of another registry that comes with its revision gets a snapshot if the
// revision is below this one or above the current one. StartAt must be called before Join.
func (r *Registry[M]) StartAt(revision uint64) { r.startAt(revision) }

// Join adds a single member. If id has one already, Join replaces it. Join returns the previous
// member of id: a single one, or the group that claimed id last. Neither is a change for watchers.
// If id had no member, Join returns the zero M.
func (r *Registry[M]) Join(id uint64, member M) (prev M) {
	prev, isNew := r.roster.Join(id, member)
	if isNew {
		r.notify()
	}
	return prev
}

// Leave removes the single member of id if it is member, and reports whether it did. The id then
// falls back to the group that claimed it last, if there is one, which is no change for watchers.
func (r *Registry[M]) Leave(id uint64, member M) bool {
	left, isLast := r.roster.Leave(id, member)
	if isLast {
		r.notify()
	}
	return left
}

// Watch adds or updates a watcher, which knows the changes up to revision since; 0: it knows
// none. Watch reports whether it did: it does not add a watcher when there are maxWatchers
// already.
func (r *Registry[M]) Watch(w Watcher, since uint64, maxWatchers int) bool {
	return r.watch(w, since, r.startRecording(), maxWatchers)
}

// Run sends changes to the watchers, at most once per coalesceDelay, until stop is closed.
func (r *Registry[M]) Run(stop <-chan struct{}) { r.watchers.run(&r.roster, stop) }

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
