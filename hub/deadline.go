package hub

import "time"

// clockCheckInterval is how often the wall clock is looked at while permissions expire.
// Timers follow the monotonic clock, which stands still while the machine sleeps, and which
// does not change when the wall clock is set.
const clockCheckInterval = 30 * time.Second

// deadline ends a connection whose client is late: with its first frame, and afterwards with
// new credentials, when its permissions expire. The zero value has no timer. Its methods are
// called by the read loop, except checkExpiry.
type deadline struct {
	timer *time.Timer // nil: none
}

// limitFirstFrame calls end after timeout, unless stopFirstFrame is called before. It is called
// before the first frame is read.
func (d *deadline) limitFirstFrame(timeout time.Duration, end func()) {
	d.timer = time.AfterFunc(timeout, end)
}

// stopFirstFrame ends the time for the first frame. It returns an error if that time is over.
func (d *deadline) stopFirstFrame() error {
	if d.timer != nil && !d.timer.Stop() {
		return errConnClosed
	}
	d.timer = nil
	return nil
}

// startExpiry ends c, whose deadline d is, when its permissions expire. It is called once.
func (d *deadline) startExpiry(c *conn) {
	d.timer = time.AfterFunc(clockCheckInterval, func() { c.deadline.checkExpiry(c) })
	// only now can checkExpiry use the timer
	d.timer.Reset(min(c.timeToExpiry(c.hub.config.now()), clockCheckInterval))
}

// checkExpiry is called by the timer of startExpiry.
func (d *deadline) checkExpiry(c *conn) {
	remaining := c.timeToExpiry(c.hub.config.now())
	switch {
	case c.done.IsSet():
	case remaining > 0:
		d.timer.Reset(min(remaining, clockCheckInterval))
	default:
		c.expire()
	}
}

// stop stops the timer for good. It keeps d.timer, which checkExpiry may use just now.
func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}
