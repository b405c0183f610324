package socket

import "time"

// minProgressBytes is the number of bytes that a peer must accept within Config.StallTimeout
// to count as alive, when that is less than one frame. It is also the maximum size of a single
// write to a connection without vectored writes and without a nonblockConn.
const minProgressBytes = 64 << 10

// Drain waits until all queued frames are written and reports whether they were. It gives up
// when the outbox is closed, for example because of a stalled peer, or when stop is closed.
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
		case <-idle: // more frames can have been offered since
		case <-stop:
			stopped = true
		}
		o.mu.Lock()
	}
	return !o.closed && o.queue == nil
}

// StartStallTimer says that the caller waits for the peer to accept queued frames. If the peer
// stalls meanwhile, the outbox fails with ErrStalled.
func (o *Outbox) StartStallTimer() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ensureStallTimer()
	o.waiters++
}

// StopStallTimer ends the wait of one call of StartStallTimer.
func (o *Outbox) StopStallTimer() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiters--
}

// Wait waits until no goroutine writes any more. The outbox must be closed, or it must be
// detached and its connection closed.
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

// The following are called with mu held, except checkStall.

// hasWork reports whether frames are left that can be written.
func (o *Outbox) hasWork() bool {
	return o.flushing || o.queue != nil && (o.retransmit == nil || !o.retransmit.detached)
}

// notifyIdle wakes the goroutines that wait for the end of the flushing.
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

// hasWaiters reports whether any goroutine waits for progress of this outbox.
func (o *Outbox) hasWaiters() bool { return len(o.blocked) > 0 || o.waiters > 0 }

// ensureStallTimer starts the stall timer before the first waiter is added. A timer still
// running from an earlier wait continues: checkStall finds out that it is too early.
func (o *Outbox) ensureStallTimer() {
	if !o.hasWaiters() {
		o.resetStallTimer()
	}
}

// stallTimer is the state of the stall check while goroutines wait for the peer.
type stallTimer struct {
	timer      *time.Timer
	progressAt monotime // last progress
	bytesSince int      // bytes written since progressAt
}

// resetStallTimer starts the stall timer, or restarts its time.
func (o *Outbox) resetStallTimer() {
	if o.base.config.StallTimeout <= 0 {
		return
	}
	if o.stallTimer == nil {
		o.stallTimer = &stallTimer{timer: time.AfterFunc(o.base.config.StallTimeout, o.checkStall)}
	}
	o.stallTimer.progressAt, o.stallTimer.bytesSince = now(), 0
}

// recordProgress records what a write has finished.
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

// checkStall runs when the stall timeout can be over. While no goroutine waits, the receiver
// has unlimited time, and the timer ends.
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
