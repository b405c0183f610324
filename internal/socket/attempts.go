package socket

import "time"

const (
	// maxAttempts is how many connections in a row may end before a frame is through that was begun on
	// each of them.
	maxAttempts = 5

	// minAttemptTime is for how long the frame must have had those connections, all together, before it
	// is given up. Connections that are cut again and again say nothing about the frame: it is
	// as long as a peer may take nothing while others wait for it, by default.
	minAttemptTime = 10 * time.Second
)

// Attempts counts on how many connections in a row one frame did not get through. A frame that a link
// cannot carry would otherwise be sent again for ever, with everything behind it waiting. The zero
// value has counted none. It belongs to one goroutine at a time.
type Attempts struct {
	frame uint64
	count int
	spent time.Duration // by the attempts behind the first; on that the frame was perhaps offered late
}

// RecordFailure notes that a connection has ended which lasted so long, and that the peer has had everything
// before the frame of that number, and not the frame. begun says that it was begun to be written. It
// reports whether the frame is to be given up.
func (a *Attempts) RecordFailure(frame uint64, started bool, duration time.Duration) bool {
	switch {
	case !started:
		*a = Attempts{}
	case a.count == 0 || a.frame != frame:
		*a = Attempts{frame: frame, count: 1}
	default:
		a.count++
		a.spent += duration
	}
	if a.count < maxAttempts || a.spent < minAttemptTime {
		return false
	}
	*a = Attempts{}
	return true
}
