package socket

import (
	"time"
)

// The time of a Reader: how long an unfinished frame may take, and what an idle connection is told.

// NotifyIdle makes Fill return ErrIdle once, when nothing has come for between after and twice
// as long, and no frame is unfinished. It does so only where the Reader waits without a buffer.
func (r *Reader) NotifyIdle(timeout time.Duration) { r.idleTimer = &idleTimer{timeout: timeout} }

// startPartial starts the time of an unfinished frame of which have bytes have come.
func (r *Reader) startPartial(n int) {
	if r.partialFrame == noPartialFrame {
		r.partialFrame = partialFrames.Get().(*partialFrame)
	}
	r.partialSince = now()
	r.progressAt, r.progressLen = r.partialSince, n
}

// recordProgress notes how much of an unfinished frame has come. One that brings minFrameRate is not cut.
func (r *Reader) recordProgress(n int) {
	if n-r.progressLen >= int(minFrameRate*r.base.config.FrameTimeout.Seconds()) {
		r.progressAt, r.progressLen = now(), n
	}
}

// frameDeadline returns when the unfinished frame is cut unless it progresses.
func (r *Reader) frameDeadline() monotime { return r.progressAt.add(r.base.config.FrameTimeout) }

// armDeadline sets the deadline for the rest of an unfinished frame. It leaves an
// earlier deadline in place, and an old one between two frames: when that
// expires, deadline finds out that it means nothing. So a busy connection sets
// one now and then, not one for each frame.
func (r *Reader) armDeadline() {
	if !r.midFrame() {
		r.armIdleDeadline()
		return
	}
	r.armDeadlineAt(r.frameDeadline())
}

// armDeadlineAt sets the deadline, unless there is an earlier one.
func (r *Reader) armDeadlineAt(at monotime) {
	if r.deadline == 0 || r.deadline > at {
		r.setDeadline(at)
	}
}

// armIdleDeadline sets the deadline for ErrIdle, unless it is set already: when it expires, deadline finds
// out whether anything has come since.
func (r *Reader) armIdleDeadline() {
	timer := r.idleTimer
	if timer == nil || r.deadline != 0 && r.deadline == timer.deadline || r.base.pollConn() == nil {
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
		r.setDeadline(deadline) // and what is stuck is looked at anew, which may set an earlier one
		return nil
	}
	return r.checkProgress()
}

// checkProgress decides about an unfinished frame that has not progressed by what was read. What is left in
// the kernel on purpose has come as well, and anything else there is read before it is decided.
func (r *Reader) checkProgress() error {
	n := r.base.unread()
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
	_ = r.base.nc.SetReadDeadline(t) // fails only on a closed connection, as the read then will
	if r.stopMode.Load() != 0 {
		_ = r.base.nc.SetReadDeadline(pastDeadline) // likewise
	}
}
