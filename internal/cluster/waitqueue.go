package cluster

import (
	"container/list"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// waitQueue holds the batches that wait for room for one receiver, in the order of their offers.
// All methods take a constant time. Those that change nothing can be called on nil, which is empty.
type waitQueue struct {
	all       list.List             // of *waiter
	droppable map[uint64]*list.List // by sender: those that OverflowDropOldest can drop; nil if empty
	isReady   bool                  // it is in window.ready
}

// waiter is a batch that waits for room for one of its receivers.
type waiter struct {
	out      *outgoing
	position int // of the receiver

	inAll, inDroppable *list.Element // the latter is nil if the batch cannot be dropped
}

// first returns the first waiter, or nil.
func (q *waitQueue) first() *waiter {
	if q == nil {
		return nil
	}
	return frontOf(&q.all)
}

// oldestOf returns the first waiter of a sender that can be dropped, or nil.
func (q *waitQueue) oldestOf(sender uint64) *waiter {
	if q == nil || q.droppable[sender] == nil {
		return nil
	}
	return frontOf(q.droppable[sender])
}

// push appends a batch.
func (q *waitQueue) push(o *outgoing, position int) *waiter {
	w := &waiter{out: o, position: position}
	w.inAll = q.all.PushBack(w)
	if o.overflow() == outbox.OverflowDropOldest {
		if q.droppable == nil {
			q.droppable = make(map[uint64]*list.List)
		}
		if q.droppable[o.Origin] == nil {
			q.droppable[o.Origin] = list.New()
		}
		w.inDroppable = q.droppable[o.Origin].PushBack(w)
	}
	return w
}

// remove removes a waiter, which must be in q.
func (q *waitQueue) remove(w *waiter) {
	q.all.Remove(w.inAll)
	if w.inDroppable == nil {
		return
	}
	sender := q.droppable[w.out.Origin]
	if sender.Remove(w.inDroppable); sender.Len() == 0 {
		delete(q.droppable, w.out.Origin)
	}
}

// frontOf returns the first waiter of a list, or nil.
func frontOf(l *list.List) *waiter {
	if front := l.Front(); front != nil {
		return front.Value.(*waiter)
	}
	return nil
}
