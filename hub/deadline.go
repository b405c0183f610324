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

// setExpiry ends c, whose deadline d is, when its permissions expire. It is called whenever
// the permissions were set.
func (d *deadline) setExpiry(c *conn) {
	if _, expires := c.permissions.Load().timeToExpiry(c.hub.config.now()); !expires {
		d.stop()
		return
	}
	if d.timer == nil {
		d.timer = time.AfterFunc(clockCheckInterval, func() { c.deadline.checkExpiry(c) })
	}
	if !d.resetExpiry(c) { // only now can checkExpiry use the timer
		d.timer.Reset(0)
	}
}

// checkExpiry is called by the timer of setExpiry.
func (d *deadline) checkExpiry(c *conn) {
	if !c.done.IsSet() && !d.resetExpiry(c) {
		c.expire()
	}
}

// resetExpiry sets the timer to the next look at the wall clock. It returns false if the
// permissions have expired.
func (d *deadline) resetExpiry(c *conn) bool {
	for {
		permissions := c.permissions.Load()
		remaining, expires := permissions.timeToExpiry(c.hub.config.now())
		switch {
		case !expires:
			return true
		case remaining <= 0:
			return false
		}
		d.timer.Reset(min(remaining, clockCheckInterval))
		if c.permissions.Load() == permissions {
			return true
		}
		// The permissions were replaced meanwhile, and this Reset may have come after the one for
		// the new permissions.
	}
}

// stop stops the timer. It keeps d.timer, which checkExpiry may use just now.
func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}
