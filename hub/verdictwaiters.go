package hub

import (
	"maps"
	"slices"
)

// verdictWaiters holds the trackers of messages that wait for a VERDICT of one client. The
// zero value is empty. Its methods must not be called concurrently.
type verdictWaiters struct {
	trackers map[verdictKey]*deliveryTracker
}

func (w *verdictWaiters) add(key verdictKey, t *deliveryTracker) {
	if w.trackers == nil {
		w.trackers = make(map[verdictKey]*deliveryTracker)
	}
	w.trackers[key] = t
}

func (w *verdictWaiters) remove(key verdictKey) { delete(w.trackers, key) }

// find returns the tracker that waits for a VERDICT with that key, or nil.
func (w *verdictWaiters) find(key verdictKey) *deliveryTracker { return w.trackers[key] }

// all returns the trackers, in no order.
func (w *verdictWaiters) all() []*deliveryTracker { return slices.Collect(maps.Values(w.trackers)) }
