package lease

import "time"

// Until returns the time until which the lease is good; zero: it is not. It can be in the past.
func (l *Lease) Until() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// Valid reports whether the lease is good: whether the store certainly has it.
func (l *Lease) Valid() bool { return isBefore(time.Now(), l.Until()) }

// isBefore reports whether now is before until by the monotonic clock and by the wall clock.
func isBefore(now, until time.Time) bool {
	return now.Before(until) && now.Round(0).Before(until.Round(0))
}

// Changed returns a channel that is closed when Valid changes. A caller that must not miss a
// change calls Changed before Valid. While the machine is suspended and shortly after, the
// channel can be late; Valid is right.
func (l *Lease) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// setUntil sets the time until which the lease is good.
func (l *Lease) setUntil(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = until
	l.updateValidLocked()
}

// updateValid tells that the lease has run out. It is called by the timer, and does not block.
func (l *Lease) updateValid() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.updateValidLocked()
}

func (l *Lease) updateValidLocked() {
	now := time.Now()
	if valid := isBefore(now, l.until); valid != l.valid {
		l.valid = valid
		close(l.changed)
		l.changed = make(chan struct{})
	}
	switch left := l.until.Sub(now); {
	case !l.valid:
	case l.expiry == nil:
		l.expiry = time.AfterFunc(left, l.updateValid)
	default:
		l.expiry.Reset(left)
	}
}

// stopExpiry stops the timer: nothing renews the lease any more.
func (l *Lease) stopExpiry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expiry != nil {
		l.expiry.Stop()
	}
}
