package socket

import (
	"time"
)

// The time of a Reader: how long an unfinished frame may take, and what an idle connection is told.

// NotifyIdle makes Fill return ErrIdle once, when nothing has come for between after and twice
// as long, and no frame is unfinished. It does so only where the Reader waits without a buffer.
func (r *Reader) NotifyIdle(after time.Duration) { r.idle = &idleWatch{after: after} }

// begin starts the time of an unfinished frame of which have bytes have come.
func (r *Reader) begin(have int) {
	if r.partial == noPartial {
		r.partial = partials.Get().(*partial)
	}
	r.since = now()
	r.moved, r.mark = r.since, have
}

// progress notes how much of an unfinished frame has come. One that brings minFrameRate is not cut.
func (r *Reader) progress(have int) {
	if have-r.mark >= int(minFrameRate*r.base.config.FrameTimeout.Seconds()) {
		r.moved, r.mark = now(), have
	}
}

// due returns when the unfinished frame is cut unless it progresses.
func (r *Reader) due() moment { return r.moved.after(r.base.config.FrameTimeout) }

// arm sets the deadline for the rest of an unfinished frame. It leaves an
// earlier deadline in place, and an old one between two frames: when that
// expires, deadline finds out that it means nothing. So a busy connection sets
// one now and then, not one for each frame.
func (r *Reader) arm() {
	if !r.midFrame() {
		r.armIdle()
		return
	}
	r.armAt(r.due())
}

// armAt sets the deadline, unless there is an earlier one.
func (r *Reader) armAt(at moment) {
	if r.armed == 0 || r.armed > at {
		r.setDeadline(at)
	}
}

// armIdle sets the deadline for ErrIdle, unless it is set already: when it expires, deadline finds
// out whether anything has come since.
func (r *Reader) armIdle() {
	w := r.idle
	if w == nil || r.armed != 0 && r.armed == w.at || r.base.below() == nil {
		return
	}
	w.at, w.seen = now().after(w.after), r.brought.Load()
	r.setDeadline(w.at)
}

// deadline decides what an expired deadline means.
func (r *Reader) deadline() error {
	if r.stopping.Load() != 0 {
		return ErrInterrupted
	}
	if !r.midFrame() {
		r.setDeadline(0)
		if w := r.idle; w != nil && w.seen == r.brought.Load() {
			r.idle = nil
			return ErrIdle
		}
		return nil
	}
	if due := r.due(); due.until() > 0 {
		r.setDeadline(due) // and what is stuck is looked at anew, which may set an earlier one
		return nil
	}
	return r.late()
}

// late decides about an unfinished frame that has not progressed by what was read. What is left in
// the kernel on purpose has come as well, and anything else there is read before it is decided.
func (r *Reader) late() error {
	n := r.base.unread()
	have := max(r.have, r.restLen) + n
	switch {
	case n == 0:
		return ErrFrameTimeout
	case !r.patient || have >= r.size:
		r.setDeadline(0)
		return nil
	}
	r.progress(have)
	if r.due().until() <= 0 {
		return ErrFrameTimeout
	}
	r.setDeadline(r.due())
	return nil
}

func (r *Reader) setDeadline(at moment) {
	r.armed = at
	var t time.Time
	if at != 0 {
		t = time.Now().Add(at.until())
	}
	_ = r.base.nc.SetReadDeadline(t) // fails only on a closed connection, as the read then will
	if r.stopping.Load() != 0 {
		_ = r.base.nc.SetReadDeadline(longAgo) // likewise
	}
}
