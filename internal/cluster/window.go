package cluster

import (
	"math/bits"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
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
// All batches under way, from the sending until the other hub says that it has queued them, have
// at most limit bytes. Those for one receiver have at most half of what is free of that: what a
// slow receiver holds shrinks with each further slow receiver, and never reaches the limit. A
// batch for several receivers counts in full for each of them, and once in the sum. The first
// batch of a receiver needs only room in the sum, and the first batch of all needs no room.
//
// A window does not lock: its owner does.
type window struct {
	limit    int
	underWay int
	lanes    map[uint64]lane // by id of the receiver; a lane with nothing in it is absent

	queue fifo     // batches that wait for room in the sum; none of their receivers is in a lane yet
	ready []uint64 // receivers whose lane may have room for what waits in it
}

// lane is the part of one receiver in the window.
type lane struct {
	underWay int
	waiting  *fifo // batches that wait for room for this receiver; nil: none do
}

// fifo is a queue of batches. An element that was cancelled is nil.
type fifo struct {
	elems []*outgoing
	head  int
}

func (f *fifo) push(o *outgoing) { f.elems = append(f.elems, o) }

// first returns the first batch, or nil.
func (f *fifo) first() *outgoing {
	for f.head < len(f.elems) && f.elems[f.head] == nil {
		f.head++
	}
	if f.head == len(f.elems) {
		f.elems, f.head = f.elems[:0], 0
		return nil
	}
	return f.elems[f.head]
}

// pop removes the first batch.
func (f *fifo) pop() {
	f.elems[f.head] = nil
	f.head++
}

// remove removes a batch.
func (f *fifo) remove(o *outgoing) {
	for i := f.head; i < len(f.elems); i++ {
		if f.elems[i] == o {
			f.elems[i] = nil
		}
	}
}

// findOldest returns the first batch that match accepts, or nil.
func (f *fifo) findOldest(match func(*outgoing) bool) *outgoing {
	for _, o := range f.elems[f.head:] {
		if o != nil && match(o) {
			return o
		}
	}
	return nil
}

// positions is a set of receivers of one batch, by their position in Transfer.Receivers.
type positions [wire.MaxReceivers/64 + 1]uint64

func (p *positions) set(i int)      { p[i/64] |= 1 << (i % 64) }
func (p *positions) clear(i int)    { p[i/64] &^= 1 << (i % 64) }
func (p *positions) has(i int) bool { return p[i/64]&(1<<(i%64)) != 0 }

func (p *positions) len() (n int) {
	for _, word := range p {
		n += bits.OnesCount64(word)
	}
	return n
}

// all calls f with each position, in ascending order.
func (p *positions) all(f func(i int)) {
	for w, word := range p {
		for ; word != 0; word &= word - 1 {
			f(w*64 + bits.TrailingZeros64(word))
		}
	}
}

// firstPositions returns the positions below n.
func firstPositions(n int) (p positions) {
	for i := range n {
		p.set(i)
	}
	return p
}

// outgoing is a batch for receivers at another hub, from its offer until nothing of it waits or is
// under way.
type outgoing struct {
	*relay.Transfer
	size    int       // in the window, in bytes
	waiting positions // receivers for which it waits in a lane
	queued  bool      // it waits in window.queue
	blocked int       // receivers for which it is not queued, and has not failed
	settled bool      // the reference to its buffer is given up
}

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
	if w.queue.first() != nil || len(w.ready) > 0 || !w.fitsSum(o) {
		o.queued = true
		w.queue.push(o)
		return a
	}
	w.admit(o, &a)
	return a
}

// admit distributes the receivers of o, which has room in the sum.
func (w *window) admit(o *outgoing, a *admission) {
	for i, to := range o.Receivers {
		l := w.lanes[to.ID]
		if l.waiting.isEmpty() && w.fitsLane(l, o) {
			a.send.set(i)
			continue
		}
		switch o.overflow() {
		case outbox.OverflowReject:
			a.rejected.set(i)
			continue
		case outbox.OverflowDropOldest:
			oldest := l.waiting.findOldestOf(o)
			if oldest == nil {
				a.rejected.set(i)
				continue
			}
			a.dropped = append(a.dropped, dropped{oldest, w.unwait(oldest, to.ID)})
		}
		w.wait(o, i)
	}
	w.charge(o, &a.send)
}

// isEmpty reports whether no batch waits. f can be nil.
func (f *fifo) isEmpty() bool { return f == nil || f.first() == nil }

// findOldestOf returns the first batch that gives way to o, or nil. f can be nil.
func (f *fifo) findOldestOf(o *outgoing) *outgoing {
	if f == nil {
		return nil
	}
	return f.findOldest(func(other *outgoing) bool {
		return other.Origin == o.Origin && other.overflow() == outbox.OverflowDropOldest
	})
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
		l.waiting = new(fifo)
	}
	l.waiting.push(o)
	o.waiting.set(i)
	w.lanes[id] = l
}

// unwait removes o from the lane of a receiver, and returns its position.
func (w *window) unwait(o *outgoing, id uint64) (position int) {
	w.lanes[id].waiting.remove(o)
	position = o.positionOf(id)
	o.waiting.clear(position)
	w.dropEmpty(id)
	return position
}

// positionOf returns the first position of a receiver for which o waits.
func (o *outgoing) positionOf(id uint64) int {
	for i, to := range o.Receivers {
		if to.ID == id && o.waiting.has(i) {
			return i
		}
	}
	return -1
}

// release records that o is not under way to one receiver any more.
func (w *window) release(o *outgoing, id uint64) {
	l := w.lanes[id]
	l.underWay -= o.size
	w.lanes[id] = l
	if !l.waiting.isEmpty() {
		w.ready = append(w.ready, id)
	}
	w.dropEmpty(id)
}

// releaseSum records that a batch needs no room in the sum any more.
func (w *window) releaseSum(o *outgoing) { w.underWay -= o.size }

// dropEmpty removes a lane with nothing in it.
func (w *window) dropEmpty(id uint64) {
	if l := w.lanes[id]; l.underWay == 0 && l.waiting.isEmpty() {
		delete(w.lanes, id)
	}
}

// next returns a batch that waited and can be sent to some of its receivers now, which are charged.
// It returns nil when there is none: what still waits has no room.
func (w *window) next(a *admission) *outgoing {
	*a = admission{}
	for len(w.ready) > 0 {
		id := w.ready[0]
		o := w.headOf(id)
		if o == nil || !w.fitsLane(w.lanes[id], o) {
			w.ready = w.ready[1:] // the next release of the lane adds it again
			continue
		}
		if !w.fitsSum(o) {
			return nil
		}
		w.takeWaiting(o, a)
		return o
	}
	w.ready = nil
	o := w.queue.first()
	if o == nil || !w.fitsSum(o) {
		return nil
	}
	w.queue.pop()
	o.queued = false
	w.admit(o, a)
	return o
}

// headOf returns the first batch that waits in a lane, or nil.
func (w *window) headOf(id uint64) *outgoing {
	if l := w.lanes[id]; l.waiting != nil {
		return l.waiting.first()
	}
	return nil
}

// takeWaiting takes o out of the lanes that have room for it, and in which it is the first.
func (w *window) takeWaiting(o *outgoing, a *admission) {
	o.waiting.all(func(i int) {
		id := o.Receivers[i].ID
		l := w.lanes[id]
		if w.headOf(id) != o || a.holds(o, id) || !w.fitsLane(l, o) {
			return
		}
		l.waiting.pop()
		a.send.set(i)
	})
	a.send.all(func(i int) { o.waiting.clear(i) })
	w.charge(o, &a.send)
}

// holds reports whether a sends o to the receiver already: a batch that names it twice crosses
// twice.
func (a *admission) holds(o *outgoing, id uint64) (found bool) {
	a.send.all(func(i int) { found = found || o.Receivers[i].ID == id })
	return found
}

// remove removes what waits of o, and returns the receivers for which it waited.
func (w *window) remove(o *outgoing) (waited positions) {
	if o.queued {
		o.queued = false
		w.queue.remove(o)
		return firstPositions(len(o.Receivers))
	}
	waited = o.waiting
	o.waiting = positions{}
	waited.all(func(i int) {
		id := o.Receivers[i].ID
		if l := w.lanes[id]; l.waiting != nil {
			l.waiting.remove(o)
			if !l.waiting.isEmpty() {
				w.ready = append(w.ready, id)
			}
		}
		w.dropEmpty(id)
	})
	return waited
}

// removeAll removes everything that waits, and calls f for each batch with the receivers for which
// it waited.
func (w *window) removeAll(f func(o *outgoing, waited positions)) {
	for o := w.queue.first(); o != nil; o = w.queue.first() {
		w.queue.pop()
		o.queued = false
		f(o, firstPositions(len(o.Receivers)))
	}
	for _, l := range w.lanes {
		for o := (*outgoing)(nil); !l.waiting.isEmpty(); l.waiting.pop() {
			if o = l.waiting.first(); o.waiting != (positions{}) {
				waited := o.waiting
				o.waiting = positions{}
				f(o, waited)
			}
		}
	}
	w.ready = nil
	for id := range w.lanes {
		w.dropEmpty(id)
	}
}
