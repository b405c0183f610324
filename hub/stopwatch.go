package hub

import (
	"math/rand/v2"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
)

// timedOneIn is of how many reads one has the deliveries timed that it leads to: so few
// that it does not show, and enough for a histogram of a hub that is hardly used.
const timedOneIn = 256

// stopwatch times the deliveries of one read.
type stopwatch struct {
	read  time.Time
	tell  func(time.Duration)
	terms socket.Terms // of messages that nobody follows otherwise
}

// newStopwatch returns one for a read that has just come in, mostly nil: then
// nothing is timed.
func newStopwatch(tell func(time.Duration)) *stopwatch {
	if tell == nil || rand.Uint32()%timedOneIn != 0 {
		return nil
	}
	w := &stopwatch{read: time.Now(), tell: tell}
	w.terms.Tracker = timed{stopwatch: w}
	return w
}

// follow returns what next is to be replaced by.
func (w *stopwatch) follow(next socket.Tracker) socket.Tracker {
	if w == nil {
		return next
	}
	return timed{w, next}
}

// timed is a tracker, and another one behind it.
type timed struct {
	stopwatch *stopwatch
	next      socket.Tracker // nil: none
}

// Progress takes the time: see socket.Tracker.
func (t timed) Progress(at int, what socket.Progress, first, frames int) {
	if what == socket.Written {
		t.stopwatch.tell(time.Since(t.stopwatch.read))
	}
	if t.next != nil {
		t.next.Progress(at, what, first, frames)
	}
}
