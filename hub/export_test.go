package hub

import "time"

// WithClock returns c with now as its wall clock.
func WithClock(c Config, now func() time.Time) Config {
	c.now = now
	return c
}
