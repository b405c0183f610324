package outbox

import "sync/atomic"

// Waiter counts the blocked sends of one sender, and one more while its Flusher can still add
// to them.
type Waiter struct {
	pending     atomic.Int32
	ready       chan struct{} // capacity 1: the count has reached 0
	onUnblocked func()        // called instead of a send to ready, if set
}

// Done ends one blocked send: it is queued or lost. It must be called once for each.
func (w *Waiter) Done() {
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
