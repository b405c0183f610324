package cluster

import (
	"container/list"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
)

// minWindow is the minimum number of bytes that can be under way from one hub to another. It is
// ten times what 700 MB/s need at a round trip of 0.5 ms.
const minWindow = 4 << 20

// transferOverhead is what a transfer counts in the window beside its bytes, and receiverOverhead
// for each of its receivers: about the memory of its state at both hubs.
const (
	transferOverhead = 128
	receiverOverhead = 16
)

// window decides which batches can be sent to another hub, and keeps the others in order.
//
// All batches under way, from the sending until the other hub says that it has queued them, or has
// them in its own budget although receivers block them, have at most limit bytes. Those for one
// receiver have at most half of what is free of that: what a slow receiver holds shrinks with each
// further slow receiver, and never reaches the limit. A batch for several receivers counts in full
// for each of them, and once in the sum. The first batch of a receiver needs only room in the sum,
// and the first batch of all needs no room.
//
// A batch that is sent to some of its receivers now and to others later crosses twice. While a
// batch has no room for all receivers, it therefore waits for all, until one of them has little
// under way: then that receiver could soon have nothing to get. Receivers that are about as fast as
// each other get a batch together, and one that is much slower delays the others only for as long
// as they have enough.
//
// Batches that wait for the sum are sent in the order of their offers, and before them those that
// wait in lanes. A large batch thus waits only for what was offered before it. A step costs a time
// that is proportional to the receivers of one batch, and not to what waits.
//
// A window does not lock: its owner does.
type window struct {
	limit    int
	underWay int
	lanes    map[uint64]lane // by id of the receiver; a lane with nothing in it is absent

	queue list.List // of *outgoing that wait for room in the sum, and not in a lane yet
	ready []uint64  // receivers whose lane may have room for what waits in it
}

// lane is the part of one receiver in the window.
type lane struct {
	underWay int
	waiting  *waitQueue // nil: nothing waits
}

// outgoing is a batch for receivers at another hub, from its offer until nothing of it waits or is
// under way.
type outgoing struct {
	*relay.Transfer
	size    int           // in the window, in bytes
	queued  *list.Element // in window.queue; nil: it does not wait for room in the sum
	waiting positions     // receivers for which it waits in a lane
	waiters []*waiter     // by position; nil until it waits in a lane
	blocked int           // receivers for which it is not queued, and has not failed
	settled bool          // the reference to its buffer is given up
}

// waits reports whether o waits for room.
func (o *outgoing) waits() bool { return o.queued != nil || o.waiting != (positions{}) }

// newOutgoing returns the outgoing of t.
func newOutgoing(t *relay.Transfer) *outgoing {
	size := t.Batch.To - t.Batch.From + transferOverhead + receiverOverhead*len(t.Receivers)
	return &outgoing{Transfer: t, size: size, blocked: len(t.Receivers)}
}

// overflow returns what is to happen if a receiver has no room.
func (o *outgoing) overflow() outbox.Overflow {
	if o.Batch.Options == nil {
		return outbox.OverflowBlock
	}
	return o.Batch.Options.Overflow
}

func (w *window) init(limit int) {
	w.limit = max(limit, minWindow)
	w.lanes = make(map[uint64]lane)
}

// fitsSum reports whether o has room in the sum.
func (w *window) fitsSum(o *outgoing) bool {
	return w.underWay == 0 || w.underWay+o.size <= w.limit
}

// fitsLane reports whether o has room in a lane.
func (w *window) fitsLane(l lane, o *outgoing) bool {
	return l.underWay == 0 || l.underWay+o.size <= (w.limit-w.underWay)/2
}

// lowShare is the part of the share of a receiver that is little to have under way. With a half,
// the messages of 100 clients to everyone else crossed 1.7 times, with a sixteenth 1.05 times; the
// rate is the same (docs/decisions/0022).
const lowShare = 16

// isLow reports whether a lane has little under way. The batch o would have room in it.
func (w *window) isLow(l lane, o *outgoing) bool {
	return l.underWay == 0 || l.underWay+o.size <= (w.limit-w.underWay)/2/lowShare
}

// admission is what becomes of an offered batch at once.
type admission struct {
	send     positions // receivers that it can be sent to now
	rejected positions // receivers without room, by the overflow policy of the batch
	dropped  []dropped // batches that have to give way
}

// dropped is one receiver of a batch that gives way to a later one of its sender.
type dropped struct {
	out      *outgoing
	position int
}

// offer decides about a new batch. What can neither be sent nor is rejected waits in w.
func (w *window) offer(o *outgoing) (a admission) {
	if w.queue.Len() > 0 || len(w.ready) > 0 || !w.fitsSum(o) {
		o.queued = w.queue.PushBack(o)
		return a
	}
	w.admit(o, &a)
	return a
}

// admit distributes the receivers of o, which has room in the sum.
func (w *window) admit(o *outgoing, a *admission) {
	fits, some := w.fitting(o)
	for i, to := range o.Receivers {
		if some && fits.has(i) {
			a.send.set(i)
			continue
		}
		l := w.lanes[to.ID]
		switch o.overflow() {
		case outbox.OverflowReject:
			a.rejected.set(i)
			continue
		case outbox.OverflowDropOldest:
			// One batch of each sender waits, the last: what is under way cannot give way any more.
			if oldest := l.waiting.oldestOf(o.Origin); oldest != nil {
				a.dropped = append(a.dropped, dropped{oldest.out, oldest.position})
				w.unwait(oldest.out, oldest.position)
			}
		}
		w.wait(o, i)
	}
	w.charge(o, &a.send)
}

// fitting returns the receivers of a new batch that have room for it, and whether it is sent to
// them now: it can wait for the others only if it waits for all that have no room.
func (w *window) fitting(o *outgoing) (fits positions, now bool) {
	now = o.overflow() != outbox.OverflowBlock
	n := 0
	for i, to := range o.Receivers {
		if l := w.lanes[to.ID]; l.waiting.first() == nil && w.fitsLane(l, o) {
			fits.set(i)
			n++
			now = now || w.isLow(l, o)
		}
	}
	return fits, now || n == len(o.Receivers)
}

// charge counts o as under way to some of its receivers.
func (w *window) charge(o *outgoing, to *positions) {
	if *to == (positions{}) {
		return
	}
	w.underWay += o.size
	to.all(func(i int) {
		id := o.Receivers[i].ID
		l := w.lanes[id]
		l.underWay += o.size
		w.lanes[id] = l
	})
}

// wait lets o wait in the lane of its receiver at position i.
func (w *window) wait(o *outgoing, i int) {
	id := o.Receivers[i].ID
	l := w.lanes[id]
	if l.waiting == nil {
		l.waiting = new(waitQueue)
		w.lanes[id] = l
	}
	if o.waiters == nil {
		o.waiters = make([]*waiter, len(o.Receivers))
	}
	o.waiters[i] = l.waiting.push(o, i)
	o.waiting.set(i)
}

// unwait removes o from the lane of its receiver at position i, in which it waits.
func (w *window) unwait(o *outgoing, i int) {
	w.lanes[o.Receivers[i].ID].waiting.remove(o.waiters[i])
	o.waiting.clear(i)
}

// release records that o is not under way to one receiver any more.
func (w *window) release(o *outgoing, id uint64) {
	l := w.lanes[id]
	l.underWay -= o.size
	w.lanes[id] = l
	w.lookAt(id)
}

// releaseSum records that a batch needs no room in the sum any more.
func (w *window) releaseSum(o *outgoing) { w.underWay -= o.size }

// lookAt has next look at a lane if something waits in it, and removes a lane with nothing in it.
func (w *window) lookAt(id uint64) {
	switch l := w.lanes[id]; {
	case l.waiting.first() == nil:
		if l.underWay == 0 {
			delete(w.lanes, id)
		}
	case !l.waiting.isReady:
		l.waiting.isReady = true
		w.ready = append(w.ready, id)
	}
}

// next returns a batch that waited and can be sent to some of its receivers now, which are charged.
// It returns nil when there is none: what still waits has no room.
func (w *window) next(a *admission) *outgoing {
	*a = admission{}
	for len(w.ready) > 0 {
		l := w.lanes[w.ready[0]]
		first := l.waiting.first()
		if first == nil || !w.fitsLane(l, first.out) {
			if l.waiting != nil {
				l.waiting.isReady = false // until the next release of the lane
			}
			w.ready = w.ready[1:]
			continue
		}
		if !w.fitsSum(first.out) {
			return nil
		}
		if w.takeWaiting(first.out, a) {
			return first.out
		}
		l.waiting.isReady = false // until the next release of a lane
		w.ready = w.ready[1:]
	}
	w.ready = nil
	front := w.queue.Front()
	if front == nil || !w.fitsSum(front.Value.(*outgoing)) {
		return nil
	}
	o := w.queue.Remove(front).(*outgoing)
	o.queued = nil
	w.admit(o, a)
	return o
}

// takeWaiting takes o out of the lanes that have room for it, and in which it is the first, and
// returns true. It returns false if o is to wait for more of its lanes.
func (w *window) takeWaiting(o *outgoing, a *admission) bool {
	var fits positions
	low := false
	o.waiting.all(func(i int) {
		l := w.lanes[o.Receivers[i].ID]
		if l.waiting.first() == o.waiters[i] && w.fitsLane(l, o) {
			fits.set(i)
			low = low || w.isLow(l, o)
		}
	})
	if !low && fits != o.waiting {
		return false
	}
	a.send = fits
	fits.all(func(i int) { w.unwait(o, i) })
	w.charge(o, &a.send)
	return true
}

// remove removes what waits of o, and returns the receivers for which it waited.
func (w *window) remove(o *outgoing) (waited positions) {
	if o.queued != nil {
		w.queue.Remove(o.queued)
		o.queued = nil
		return firstPositions(len(o.Receivers))
	}
	waited = o.waiting
	waited.all(func(i int) {
		w.unwait(o, i)
		w.lookAt(o.Receivers[i].ID)
	})
	return waited
}

// removeAll removes everything that waits, and calls f for each batch with the receivers for which
// it waited.
func (w *window) removeAll(f func(o *outgoing, waited positions)) {
	for front := w.queue.Front(); front != nil; front = w.queue.Front() {
		o := front.Value.(*outgoing)
		f(o, w.remove(o))
	}
	for id, l := range w.lanes {
		for first := l.waiting.first(); first != nil; first = l.waiting.first() {
			f(first.out, w.remove(first.out))
		}
		w.lookAt(id)
	}
	for _, id := range w.ready { // each by a batch that waited behind one that was removed
		if l := w.lanes[id]; l.waiting != nil {
			l.waiting.isReady = false
		}
	}
	w.ready = nil
}
