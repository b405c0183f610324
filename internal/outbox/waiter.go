package outbox

import "sync/atomic"

// waiter counts the blocked sends of one sender, and one more while its Flusher can still add
// to them.
type waiter struct {
	pending     atomic.Int32
	ready       chan struct{} // capacity 1: the count has reached 0
	onUnblocked func()        // called instead of a send to ready, if set
}

func (w *waiter) done() {
	if w.pending.Add(-1) > 0 {
		return
	}
	if w.onUnblocked != nil {
		w.onUnblocked()
		return
	}
	select {
	case w.ready <- struct{}{}:
	default:
	}
}
