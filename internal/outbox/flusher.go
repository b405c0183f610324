package outbox

import (
	"github.com/sechlol/go-message-hub/internal/body"
)

// Flusher is the sender's side of a batch of offers: the outboxes to flush, and the blocked
// sends to wait for. It belongs to one goroutine. The zero value is ready for use.
type Flusher struct {
	CopyAccount *body.Account // charged for the memory of copied frames; nil: no account is

	toFlush     []*Outbox
	spareBlock  *body.Buffer // for the next outbox that needs a block
	waiter      *Waiter
	completions completions // of frames that were dropped to make room for an offer
}

// Flush starts the writing of the outboxes that were offered frames and had no flush
// goroutine. It must be called before the caller waits for any event.
//
// A small batch for one receiver, as in a conversation of two clients, is written by Flush
// itself if the outbox was empty for CoalesceDelay, because waking a goroutine takes longer.
// Flush never waits for the receiver.
func (fl *Flusher) Flush() {
	if len(fl.toFlush) == 1 && fl.toFlush[0].flushDirect() {
		fl.toFlush[0] = nil
		fl.toFlush = fl.toFlush[:0]
	}
	for i, o := range fl.toFlush {
		go o.queue.flushFn() // Outbox.flush: ends when the queue is empty; Outbox.Wait waits for its end
		fl.toFlush[i] = nil
	}
	fl.toFlush = fl.toFlush[:0]
}

// Wait flushes, and waits until every blocked send is queued or lost. It returns false if stop
// is closed before.
func (fl *Flusher) Wait(stop <-chan struct{}) bool {
	fl.Flush()
	if fl.waiter == nil {
		return true
	}
	fl.waiter.Done() // the Flusher's own part of the count
	for fl.waiter.pending.Load() > 0 {
		select {
		case <-fl.waiter.ready:
		case <-stop:
			fl.waiter = nil // outboxes still point to the waiter
			return false
		}
	}
	fl.waiter.pending.Store(1)
	return true
}

// OnUnblocked arranges for callback to be called when every send that is blocked now is queued
// or lost, as an alternative to Wait. If none is blocked, OnUnblocked calls it at once;
// otherwise the goroutine that makes room for the last of these sends does. callback must not
// block.
func (fl *Flusher) OnUnblocked(callback func()) {
	w := fl.waiter
	if w == nil {
		callback()
		return
	}
	fl.waiter = nil
	w.onUnblocked = callback
	w.Done() // the Flusher's own part of the count
}

// Abandon flushes, and stops tracking the blocked sends: they stay blocked and will be queued
// in their turn. The Flusher can be used again, by any goroutine.
func (fl *Flusher) Abandon() {
	fl.Flush()
	fl.waiter = nil // as in Reset
}

// Reset flushes and gives back all memory. The Flusher can be used again.
func (fl *Flusher) Reset() {
	fl.Flush()
	if fl.spareBlock != nil {
		fl.spareBlock.Release()
		fl.spareBlock = nil
	}
	fl.waiter = nil // its channel must not go into a pool: synctest forbids it
}

// OfferWait offers batch to o alone and waits for room if necessary. It returns Blocked if
// cancel was closed before there was room: then no frame of the batch is sent.
func (fl *Flusher) OfferWait(o *Outbox, batch *Batch, cancel <-chan struct{}) Outcome {
	outcome := o.Offer(batch, fl)
	fl.Flush()
	if outcome != Blocked {
		return outcome
	}
	w := fl.waiter
	waited := fl.Wait(cancel)
	fl.waiter = nil // as in Reset
	if !waited && o.cancelBlocked(w) {
		return Blocked
	}
	if o.isClosed() {
		return Closed
	}
	return Queued
}

// ensureSpareBlock acquires a spare block if memory is available. It is called before an
// outbox is locked: no lock is held while memory is acquired.
func (fl *Flusher) ensureSpareBlock() {
	if fl.spareBlock == nil {
		fl.spareBlock = fl.CopyAccount.TryAcquire(blockSize)
	}
}

// AddBlocked counts one more blocked send, of which no Outbox knows, and returns the waiter whose
// Done ends it.
func (fl *Flusher) AddBlocked() *Waiter { return fl.addWaiter() }

// addWaiter returns the waiter, with one more blocked send counted.
func (fl *Flusher) addWaiter() *Waiter {
	if fl.waiter == nil {
		fl.waiter = &Waiter{ready: make(chan struct{}, 1)}
		fl.waiter.pending.Store(1)
	}
	fl.waiter.pending.Add(1)
	return fl.waiter
}
