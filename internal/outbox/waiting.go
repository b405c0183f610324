package outbox

import (
	"slices"
	"time"
)

// MinProgress is the number of bytes that a peer must accept within Config.StallTimeout to
// count as alive, when that is less than one frame.
const MinProgress = 64 << 10

// waiting describes the goroutines that wait for an outbox, and the progress of its peer. An outbox
// that no goroutine waits for has none. Guarded by the lock of the outbox.
type waiting struct {
	blocked []blockedSend // first come, first served
	callers int           // of Drain and StartStallTimer
	idle    chan struct{} // closed when flushing ends; nil: no goroutine waits for it

	timer      *time.Timer // of the stall check; nil: not running
	progressAt time.Time   // last progress
	bytesSince int         // bytes written since progressAt
}

// blockedSend is a batch that waits for room in an outbox.
type blockedSend struct {
	batch  Batch
	waiter *Waiter
}

func (w *waiting) hasBlocked() bool { return w != nil && len(w.blocked) > 0 }

// forProgress reports whether any goroutine waits for the peer to accept data.
func (w *waiting) forProgress() bool { return w != nil && (len(w.blocked) > 0 || w.callers > 0) }

func (w *waiting) unused() bool { return !w.forProgress() && w.idle == nil && w.timer == nil }

// stopTimer stops the stall timer.
func (w *waiting) stopTimer() {
	if w != nil && w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

// recordProgress records what a write has finished.
func (w *waiting) recordProgress(written Counts) {
	if !w.forProgress() || w.timer == nil {
		return
	}
	w.bytesSince += written.Bytes
	if written.Frames > 0 || w.bytesSince >= MinProgress {
		w.progressAt, w.bytesSince = time.Now(), 0
	}
}

// removeBlocked removes the first n blocked sends.
func (w *waiting) removeBlocked(n int) {
	remaining := copy(w.blocked, w.blocked[n:])
	clear(w.blocked[remaining:])
	w.blocked = w.blocked[:remaining]
	if remaining == 0 && cap(w.blocked) > 4 { // room for a few senders stays until the queue is empty
		w.blocked = nil
	}
}

// retract removes the blocked sends with the given options, which have expired.
func (w *waiting) retract(options *Options, out *completions) {
	remaining := w.blocked[:0]
	for _, send := range w.blocked {
		if send.batch.Options == options {
			s := segmentOf(&send.batch)
			out.discard(&s, EventExpired)
			out.waiters = append(out.waiters, send.waiter)
		} else {
			remaining = append(remaining, send)
		}
	}
	clear(w.blocked[len(remaining):])
	w.blocked = remaining
}

// cancel removes the blocked send with the given waiter and reports whether there is one.
func (w *waiting) cancel(sender *Waiter) bool {
	i := slices.IndexFunc(w.blocked, func(send blockedSend) bool { return send.waiter == sender })
	if i < 0 {
		return false
	}
	w.blocked[i].batch.Buffer.Release()
	w.blocked = slices.Delete(w.blocked, i, i+1)
	return true
}
