package hub

import "time"

// WithClock returns the configuration with another wall clock.
func WithClock(c Config, now func() time.Time) Config {
	c.now = now
	return c
}
