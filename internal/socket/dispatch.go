package socket

import (
	"sync/atomic"

	"github.com/sechlol/go-message-hub/internal/body"
)

// Dispatch is the sender's side of offers: what one batch of them leaves to be
// done. It belongs to one goroutine. The zero value is ready for use.
type Dispatch struct {
	Blocks *body.Account // charged for the memory of copies; nil: nobody

	wake    []*Outbox
	spare   *body.Buffer // for the next outbox that needs a block
	ticket  *ticket
	settled settled // by what gave way to an offer
}

// Flush gets on its way what was offered to outboxes that had no flusher. It must
// be called before the caller waits for anything.
//
// A little for one receiver, as in a conversation of two, is written right here if
// the outbox was quiet: to wake a goroutine takes longer. It never waits for the
// receiver.
func (d *Dispatch) Flush() {
	if len(d.wake) == 1 && d.wake[0].flushDirect() {
		d.wake[0] = nil
		d.wake = d.wake[:0]
	}
	for i, o := range d.wake {
		go o.queue.run() // flush: ends when the queue is dry; its owner waits by Outbox.Wait
		d.wake[i] = nil
	}
	d.wake = d.wake[:0]
}

// Wait flushes, and then waits until everything parked is queued or lost. It
// returns false when stop is closed before.
func (d *Dispatch) Wait(stop <-chan struct{}) bool {
	d.Flush()
	if d.ticket == nil {
		return true
	}
	d.ticket.done() // the part of the Dispatch
	for d.ticket.open.Load() > 0 {
		select {
		case <-d.ticket.ready:
		case <-stop:
			d.ticket = nil // outboxes still point to it
			return false
		}
	}
	d.ticket.open.Store(1)
	return true
}

// Later has settled called when everything parked so far is queued or lost, instead
// of waiting for it: at once and by the caller if nothing is parked, otherwise by
// whoever makes room for the last of it. settled must not block.
func (d *Dispatch) Later(settled func()) {
	t := d.ticket
	if t == nil {
		settled()
		return
	}
	d.ticket = nil
	t.later = settled
	t.done() // the part of the Dispatch
}

// Leave flushes, and leaves alone what is parked: it will be queued in its turn. The
// Dispatch may be used again, by anybody.
func (d *Dispatch) Leave() {
	d.Flush()
	d.ticket = nil // as in Drop
}

// Drop flushes and gives back all memory. The Dispatch may be used again.
func (d *Dispatch) Drop() {
	d.Flush()
	if d.spare != nil {
		d.spare.Release()
		d.spare = nil
	}
	d.ticket = nil // it has a channel, which must not go into a pool: synctest forbids it
}

// Enqueue offers p to o alone and waits for room if there is none. It returns
// Parked when cancel was closed before there was: then nothing of p is sent.
func (d *Dispatch) Enqueue(o *Outbox, p *Piece, cancel <-chan struct{}) Outcome {
	outcome := o.Offer(p, d)
	d.Flush()
	if outcome != Parked {
		return outcome
	}
	t := d.ticket
	waited := d.Wait(cancel)
	d.ticket = nil // as in Drop
	if !waited && o.withdraw(t) {
		return Parked
	}
	if o.isClosed() {
		return Gone
	}
	return Queued
}

// prepare makes sure that there is a spare block if one can be had. It is called
// before an outbox is locked, so that no lock is held while memory is drawn.
func (d *Dispatch) prepare() {
	if d.spare == nil {
		d.spare = draw(d.Blocks, blockSize)
	}
}

// promise returns the ticket for one more parked piece.
func (d *Dispatch) promise() *ticket {
	if d.ticket == nil {
		d.ticket = &ticket{ready: make(chan struct{}, 1)}
		d.ticket.open.Store(1)
	}
	d.ticket.open.Add(1)
	return d.ticket
}

// ticket counts the parked pieces of one sender, and one more for as long as its
// Dispatch may add to them.
type ticket struct {
	open  atomic.Int32
	ready chan struct{} // capacity 1: something was settled, look again
	later func()        // called instead, if it is set
}

func (t *ticket) done() {
	if t.open.Add(-1) > 0 {
		return
	}
	if t.later != nil {
		t.later()
		return
	}
	select {
	case t.ready <- struct{}{}:
	default:
	}
}
