package socket

import (
	"time"
)

// The deadlines of a Reader: for an unfinished frame, and for an idle connection.

// NotifyIdle makes Fill return ErrIdle once, when no data has arrived for at least timeout and
// at most twice that, and no frame is unfinished. It has an effect only where the Reader waits
// without a buffer.
func (r *Reader) NotifyIdle(timeout time.Duration) { r.idleTimer = &idleTimer{timeout: timeout} }

// startPartial starts the clock of an unfinished frame of which n bytes have arrived.
func (r *Reader) startPartial(n int) {
	if r.partialFrame == noPartialFrame {
		r.partialFrame = partialFrames.Get().(*partialFrame)
	}
	r.partialSince = now()
	r.progressAt, r.progressLen = r.partialSince, n
}

// recordProgress records that n bytes of an unfinished frame have arrived. A frame with at
// least minFrameRate is not cut.
func (r *Reader) recordProgress(n int) {
	if n-r.progressLen >= int(minFrameRate*r.base.config.FrameTimeout.Seconds()) {
		r.progressAt, r.progressLen = now(), n
	}
}

// frameDeadline returns when the unfinished frame is cut unless it progresses.
func (r *Reader) frameDeadline() monotime { return r.progressAt.add(r.base.config.FrameTimeout) }

// isOverdue reports whether the time of an unfinished frame is over.
func (r *Reader) isOverdue() bool { return r.midFrame() && r.frameDeadline().until() <= 0 }

// armDeadline sets the deadline for the rest of an unfinished frame. It keeps an earlier
// deadline, and between two frames it keeps an old deadline: when the old deadline expires,
// onDeadline finds out that it has no meaning. A busy connection thus sets a deadline now and
// then instead of once per frame.
func (r *Reader) armDeadline() {
	if !r.midFrame() {
		r.armIdleDeadline()
		return
	}
	r.armDeadlineAt(r.frameDeadline())
}

// armDeadlineAt sets the deadline, unless an earlier deadline is set.
func (r *Reader) armDeadlineAt(at monotime) {
	if r.deadline == 0 || r.deadline > at {
		r.setDeadline(at)
	}
}

// armIdleDeadline sets the deadline for ErrIdle, unless it is already set. When it expires,
// onDeadline checks whether data has arrived since.
func (r *Reader) armIdleDeadline() {
	timer := r.idleTimer
	if timer == nil || r.deadline != 0 && r.deadline == timer.deadline {
		return
	}
	timer.deadline, timer.bytesRead = now().add(timer.timeout), r.bytesRead.Load()
	r.setDeadline(timer.deadline)
}

// onDeadline decides what an expired deadline means.
func (r *Reader) onDeadline() error {
	if r.stopMode.Load() != 0 {
		return ErrInterrupted
	}
	if !r.midFrame() {
		r.setDeadline(0)
		if timer := r.idleTimer; timer != nil && timer.bytesRead == r.bytesRead.Load() {
			r.idleTimer = nil
			return ErrIdle
		}
		return nil
	}
	if deadline := r.frameDeadline(); deadline.until() > 0 {
		r.setDeadline(deadline) // tryReadWhole then runs again and can set an earlier deadline
		return nil
	}
	return r.checkProgress()
}

// checkProgress decides about an unfinished frame of which too few bytes were read. Bytes left
// in the kernel on purpose count as arrived; any other bytes in the kernel are read before the
// frame is cut.
func (r *Reader) checkProgress() error {
	n := r.unread()
	arrived := max(r.largeLen, r.startLen) + n
	switch {
	case n == 0:
		return ErrFrameTimeout
	case !r.lowatRaised || arrived >= r.size:
		r.setDeadline(0)
		return nil
	}
	r.recordProgress(arrived)
	if r.frameDeadline().until() <= 0 {
		return ErrFrameTimeout
	}
	r.setDeadline(r.frameDeadline())
	return nil
}

func (r *Reader) setDeadline(at monotime) {
	r.deadline = at
	var t time.Time
	if at != 0 {
		t = time.Now().Add(at.until())
	}
	r.base.transport.Interrupt(t)
	if r.stopMode.Load() != 0 {
		r.base.transport.Interrupt(pastDeadline)
	}
}
