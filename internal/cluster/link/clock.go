package link

import "time"

// clockBucket is how long a peerClock collects a minimum, in µs. It forgets a difference after one
// to two buckets: in that time, clocks that differ by 100 ppm drift apart by at most 6 ms.
const clockBucket = int64(30 * time.Second / time.Microsecond)

// peerClock estimates the clock of the other side. Of each frame it knows the difference between
// the time of its arrival here and the time of its sending there: the difference of the clocks,
// and the time that the frame was on its way. The minimum of these differences is that of the frame
// with the shortest way.
type peerClock struct {
	known    bool
	current  int64 // minimum of the bucket
	previous int64 // minimum of the bucket before
	began    int64 // when the bucket has begun, by Link.Now
}

// add adds a frame that was sent at sentAt and has arrived now.
func (c *peerClock) add(now, sentAt int64) {
	difference := now - sentAt
	switch {
	case !c.known:
		*c = peerClock{known: true, current: difference, previous: difference, began: now}
	case now-c.began >= clockBucket:
		c.previous, c.current, c.began = c.current, difference, now
	default:
		c.current = min(c.current, difference)
	}
}

// now returns the time of the other side, at most; 0: it is not known.
func (c *peerClock) now(now int64) int64 {
	if !c.known {
		return 0
	}
	return now - min(c.current, c.previous)
}

const (
	// maxEchoDelay is the maximum delay of an echo that roundTrip uses, in µs: the delay is
	// measured by another clock.
	maxEchoDelay = int64(100 * time.Millisecond / time.Microsecond)

	// maxRTT is the maximum round trip that roundTrip believes, in µs.
	maxRTT = int64(time.Minute / time.Microsecond)
)

// roundTrip measures the time of a frame to the other side and of its echo back, in µs.
type roundTrip struct {
	last, smoothed int64
	echo           int64 // the latest echo that was used
}

// add adds an echo that has arrived now. Each is used once, when it arrives first.
func (r *roundTrip) add(now, echo, delay int64) {
	rtt := now - echo - delay
	if echo <= r.echo || delay > maxEchoDelay || rtt < 0 || rtt > maxRTT {
		return
	}
	if r.echo == 0 {
		r.smoothed = rtt
	}
	r.echo, r.last = echo, rtt
	r.smoothed += (rtt - r.smoothed) / 8 // the weight that TCP uses (RFC 6298)
}
