package outbox

import "time"

const (
	// maxAttempts is the number of consecutive connections that can end after they have written a
	// part of the same frame. Then the frame is given up.
	maxAttempts = 5

	// minAttemptTime is the minimum total duration of these connections, without the first.
	// Connections that are cut again and again within a short time say nothing about the frame.
	// The value equals the default stall timeout of the hub.
	minAttemptTime = 10 * time.Second
)

// Attempts counts on how many consecutive connections the same frame was written in part and
// not received. Without this count, a frame that a network path cannot carry would be
// retransmitted for ever and would block all frames behind it. The zero value is ready for
// use. An Attempts belongs to one goroutine at a time.
type Attempts struct {
	frame uint64
	count int
	spent time.Duration // of the attempts after the first, which can have got the frame late
}

// RecordFailure records that a connection of the given duration has ended, and that the peer
// has received every frame before the frame with the given number, but not this frame. started
// says that the connection had accepted a part of it. RecordFailure reports whether the frame
// must be given up.
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
