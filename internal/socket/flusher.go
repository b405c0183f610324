package socket

import (
	"sync/atomic"

	"github.com/sechlol/go-message-hub/internal/body"
)

// Flusher is the sender's side of offers: what one batch of them leaves to be
// done. It belongs to one goroutine. The zero value is ready for use.
type Flusher struct {
	CopyAccount *body.Account // charged for the memory of copies; nil: nobody

	toFlush     []*Outbox
	spareBlock  *body.Buffer // for the next outbox that needs a block
	waiter      *waiter
	completions completions // by what gave way to an offer
}

// Flush gets on its way what was offered to outboxes that had no flusher. It must
// be called before the caller waits for anything.
//
// A little for one receiver, as in a conversation of two, is written right here if
// the outbox was quiet: to wake a goroutine takes longer. It never waits for the
// receiver.
func (fl *Flusher) Flush() {
	if len(fl.toFlush) == 1 && fl.toFlush[0].flushDirect() {
		fl.toFlush[0] = nil
		fl.toFlush = fl.toFlush[:0]
	}
	for i, o := range fl.toFlush {
		go o.queue.flushFn() // flush: ends when the queue is dry; its owner waits by Outbox.Wait
		fl.toFlush[i] = nil
	}
	fl.toFlush = fl.toFlush[:0]
}

// Wait flushes, and then waits until everything parked is queued or lost. It
// returns false when stop is closed before.
func (fl *Flusher) Wait(stop <-chan struct{}) bool {
	fl.Flush()
	if fl.waiter == nil {
		return true
	}
	fl.waiter.done() // the part of the Dispatch
	for fl.waiter.pending.Load() > 0 {
		select {
		case <-fl.waiter.ready:
		case <-stop:
			fl.waiter = nil // outboxes still point to it
			return false
		}
	}
	fl.waiter.pending.Store(1)
	return true
}

// OnUnblocked has settled called when everything parked so far is queued or lost, instead
// of waiting for it: at once and by the caller if nothing is parked, otherwise by
// whoever makes room for the last of it. settled must not block.
func (fl *Flusher) OnUnblocked(callback func()) {
	w := fl.waiter
	if w == nil {
		callback()
		return
	}
	fl.waiter = nil
	w.onUnblocked = callback
	w.done() // the part of the Dispatch
}

// Abandon flushes, and leaves alone what is parked: it will be queued in its turn. The
// Dispatch may be used again, by anybody.
func (fl *Flusher) Abandon() {
	fl.Flush()
	fl.waiter = nil // as in Drop
}

// Reset flushes and gives back all memory. The Dispatch may be used again.
func (fl *Flusher) Reset() {
	fl.Flush()
	if fl.spareBlock != nil {
		fl.spareBlock.Release()
		fl.spareBlock = nil
	}
	fl.waiter = nil // it has a channel, which must not go into a pool: synctest forbids it
}

// OfferWait offers p to o alone and waits for room if there is none. It returns
// Parked when cancel was closed before there was: then nothing of p is sent.
func (fl *Flusher) OfferWait(o *Outbox, batch *Batch, cancel <-chan struct{}) Outcome {
	outcome := o.Offer(batch, fl)
	fl.Flush()
	if outcome != Blocked {
		return outcome
	}
	w := fl.waiter
	waited := fl.Wait(cancel)
	fl.waiter = nil // as in Drop
	if !waited && o.cancelBlocked(w) {
		return Blocked
	}
	if o.isClosed() {
		return Closed
	}
	return Queued
}

// ensureSpareBlock makes sure that there is a spare block if one can be had. It is called
// before an outbox is locked, so that no lock is held while memory is drawn.
func (fl *Flusher) ensureSpareBlock() {
	if fl.spareBlock == nil {
		fl.spareBlock = tryAcquire(fl.CopyAccount, blockSize)
	}
}

// addWaiter returns the ticket for one more parked piece.
func (fl *Flusher) addWaiter() *waiter {
	if fl.waiter == nil {
		fl.waiter = &waiter{ready: make(chan struct{}, 1)}
		fl.waiter.pending.Store(1)
	}
	fl.waiter.pending.Add(1)
	return fl.waiter
}

// waiter counts the parked pieces of one sender, and one more for as long as its
// Dispatch may add to them.
type waiter struct {
	pending     atomic.Int32
	ready       chan struct{} // capacity 1: something was settled, look again
	onUnblocked func()        // called instead, if it is set
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
