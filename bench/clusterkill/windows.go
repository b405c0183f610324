package main

import "time"

const (
	// settleTime is how long after a fault messages can still have other fates than without it:
	// directories are equal 5 s after a fault.
	settleTime = 6 * time.Second

	// disconnectDelay is how long after a fault a client can still lose its connection because of
	// it: twice the longest keep-alive, and the time in which what was in the way moves.
	disconnectDelay = 40 * time.Second
)

// hubs is a set of hubs: a bit for each.
type hubs uint8

const allHubs hubs = 1<<hubCount - 1

// window is the time of one fault. Messages from or to clients of direct hubs, and those between
// clients of two hubs of which one is in crossing, can have any fate that is true.
type window struct {
	span
	direct, crossing hubs
}

// openWindow begins the time of a fault.
func (l *ledger) openWindow(direct, crossing hubs) *window {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &window{span: span{from: time.Now()}, direct: direct, crossing: crossing}
	l.windows = append(l.windows, w)
	return w
}

// closeWindow ends the time of a fault. The settleTime follows.
func (l *ledger) closeWindow(w *window) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.to = time.Now()
}

// disturbedLocked reports whether a fault, or the settleTime after it, overlaps a time, and is
// direct for one of a set of hubs, or crossing for one of another set.
func (l *ledger) disturbedLocked(from, to time.Time, direct, crossing hubs) bool {
	for _, w := range l.windows {
		if (w.direct&direct != 0 || w.crossing&crossing != 0) && w.overlaps(from.Add(-settleTime), to) {
			return true
		}
	}
	return false
}

// undisturbed reports whether no fault can have changed what happened to a message for one
// receiver. l.mu must be held.
func (l *ledger) undisturbed(r *record, t *target) bool {
	from, to := r.sent, r.done
	if r.level == 0 || to.IsZero() {
		to = from.Add(maxQuietTime)
	}
	if r.from == nil || t.session == nil {
		return false
	}
	for _, s := range []*session{r.from, t.session} {
		if s.from.After(from) || !s.to.IsZero() && s.to.Before(to) {
			return false
		}
		for _, b := range s.breaks {
			if b.overlaps(from, to) {
				return false
			}
		}
	}
	var crossing hubs
	if r.from.hub != t.session.hub {
		crossing = 1<<r.from.hub | 1<<t.session.hub
	}
	return !l.disturbedLocked(from, to, 1<<r.from.hub|1<<t.session.hub, crossing)
}

// maxQuietTime is how long a message without a report can be under way without a fault.
const maxQuietTime = 20 * time.Second
