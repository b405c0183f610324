package socket

import "time"

// progressBytes is how much a stalled receiver must take to be alive when that
// is less than one frame (the design's number).
const progressBytes = 64 << 10

// Drain waits until everything queued is written and reports whether it was. It
// gives up when the outbox is closed, by a stalled peer for instance, or when
// stop is.
func (o *Outbox) Drain(stop <-chan struct{}) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.press()
	o.waiting++
	defer func() { o.waiting-- }()
	for stopped := false; o.busy() && !o.closed && !stopped; {
		dry := o.whenDry()
		o.mu.Unlock()
		select {
		case <-dry: // or somebody has offered more since
		case <-stop:
			stopped = true
		}
		o.mu.Lock()
	}
	return !o.closed && o.queue == nil
}

// Press says that somebody waits for the peer to take something of what is queued: it is given up if it stalls meanwhile.
func (o *Outbox) Press() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.press()
	o.waiting++
}

// Ease says that one who had called Press waits no more.
func (o *Outbox) Ease() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting--
}

// Wait returns when no flusher runs any more. The outbox must be closed, or detached
// and its connection severed.
func (o *Outbox) Wait() {
	o.mu.Lock()
	if !o.flushing {
		o.mu.Unlock()
		return
	}
	dry := o.whenDry()
	o.mu.Unlock()
	<-dry
}

// The following are called with mu held, but check.

// busy reports whether something is still to be written and can be.
func (o *Outbox) busy() bool {
	return o.flushing || o.queue != nil && (o.ledger == nil || !o.ledger.detached)
}

// signal tells those who wait for the end of the flusher.
func (o *Outbox) signal() {
	if o.dry != nil {
		close(o.dry)
		o.dry = nil
	}
}

func (o *Outbox) whenDry() <-chan struct{} {
	if o.dry == nil {
		o.dry = make(chan struct{})
	}
	return o.dry
}

// pressed reports whether somebody waits for this outbox to move.
func (o *Outbox) pressed() bool { return len(o.parked) > 0 || o.waiting > 0 }

// press starts the clock of the stall check when somebody is about to wait and
// nobody did before. A timer that still runs from the last time is left to find
// out that it came too early.
func (o *Outbox) press() {
	if !o.pressed() {
		o.startClock()
	}
}

// stallClock is what the stall check needs while somebody waits.
type stallClock struct {
	timer *time.Timer
	mark  moment // last progress
	moved int    // bytes written since
}

// startClock starts the clock of the stall check, or sets it back.
func (o *Outbox) startClock() {
	if o.base.config.StallTimeout <= 0 {
		return
	}
	if o.clock == nil {
		o.clock = &stallClock{timer: time.AfterFunc(o.base.config.StallTimeout, o.check)}
	}
	o.clock.mark, o.clock.moved = now(), 0
}

// progress notes what a write has moved.
func (o *Outbox) progress(done Tally) {
	o.sent += int64(done.Bytes)
	c := o.clock
	if c == nil || !o.pressed() {
		return
	}
	c.moved += done.Bytes
	if done.Frames > 0 || c.moved >= progressBytes {
		c.mark, c.moved = now(), 0
	}
}

// check runs when the stall time may be over. While nobody waits the receiver
// may take as long as it likes, and the timer ends.
func (o *Outbox) check() {
	o.mu.Lock()
	if o.closed || !o.pressed() {
		o.clock = nil
		o.mu.Unlock()
		return
	}
	if left := o.clock.mark.after(o.base.config.StallTimeout).until(); left > 0 {
		o.clock.timer.Reset(left)
		o.mu.Unlock()
		return
	}
	o.mu.Unlock()
	o.fail(ErrStalled)
}
