package socket

import "time"

// minProgressBytes is how much a stalled receiver must take to be alive when that
// is less than one frame (the design's number).
const minProgressBytes = 64 << 10

// Drain waits until everything queued is written and reports whether it was. It
// gives up when the outbox is closed, by a stalled peer for instance, or when
// stop is.
func (o *Outbox) Drain(stop <-chan struct{}) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ensureStallTimer()
	o.waiters++
	defer func() { o.waiters-- }()
	for stopped := false; o.hasWork() && !o.closed && !stopped; {
		idle := o.idleChan()
		o.mu.Unlock()
		select {
		case <-idle: // or somebody has offered more since
		case <-stop:
			stopped = true
		}
		o.mu.Lock()
	}
	return !o.closed && o.queue == nil
}

// StartStallTimer says that somebody waits for the peer to take something of what is queued: it is given up if it stalls meanwhile.
func (o *Outbox) StartStallTimer() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ensureStallTimer()
	o.waiters++
}

// StopStallTimer says that one who had called Press waits no more.
func (o *Outbox) StopStallTimer() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiters--
}

// Wait returns when no flusher runs any more. The outbox must be closed, or detached
// and its connection severed.
func (o *Outbox) Wait() {
	o.mu.Lock()
	if !o.flushing {
		o.mu.Unlock()
		return
	}
	idle := o.idleChan()
	o.mu.Unlock()
	<-idle
}

// The following are called with mu held, but check.

// hasWork reports whether something is still to be written and can be.
func (o *Outbox) hasWork() bool {
	return o.flushing || o.queue != nil && (o.retransmit == nil || !o.retransmit.detached)
}

// notifyIdle tells those who wait for the end of the flusher.
func (o *Outbox) notifyIdle() {
	if o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
}

func (o *Outbox) idleChan() <-chan struct{} {
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	return o.idle
}

// hasWaiters reports whether somebody waits for this outbox to move.
func (o *Outbox) hasWaiters() bool { return len(o.blocked) > 0 || o.waiters > 0 }

// ensureStallTimer starts the clock of the stall check when somebody is about to wait and
// nobody did before. A timer that still runs from the last time is left to find
// out that it came too early.
func (o *Outbox) ensureStallTimer() {
	if !o.hasWaiters() {
		o.resetStallTimer()
	}
}

// stallTimer is what the stall check needs while somebody waits.
type stallTimer struct {
	timer      *time.Timer
	progressAt monotime // last progress
	bytesSince int      // bytes written since
}

// resetStallTimer starts the clock of the stall check, or sets it back.
func (o *Outbox) resetStallTimer() {
	if o.base.config.StallTimeout <= 0 {
		return
	}
	if o.stallTimer == nil {
		o.stallTimer = &stallTimer{timer: time.AfterFunc(o.base.config.StallTimeout, o.checkStall)}
	}
	o.stallTimer.progressAt, o.stallTimer.bytesSince = now(), 0
}

// recordProgress notes what a write has moved.
func (o *Outbox) recordProgress(written Counts) {
	o.sent += int64(written.Bytes)
	t := o.stallTimer
	if t == nil || !o.hasWaiters() {
		return
	}
	t.bytesSince += written.Bytes
	if written.Frames > 0 || t.bytesSince >= minProgressBytes {
		t.progressAt, t.bytesSince = now(), 0
	}
}

// checkStall runs when the stall time may be over. While nobody waits the receiver
// may take as long as it likes, and the timer ends.
func (o *Outbox) checkStall() {
	o.mu.Lock()
	if o.closed || !o.hasWaiters() {
		o.stallTimer = nil
		o.mu.Unlock()
		return
	}
	if remaining := o.stallTimer.progressAt.add(o.base.config.StallTimeout).until(); remaining > 0 {
		o.stallTimer.timer.Reset(remaining)
		o.mu.Unlock()
		return
	}
	o.mu.Unlock()
	o.fail(ErrStalled)
}
