package hub

import (
	"log/slog"
	"sync"
	"time"
)

// complainEvery is how often the same complaint is logged: whoever can connect can make
// the hub complain, and must not fill its log.
const complainEvery = time.Second

// complaints are log lines about something that others can make happen as often as they
// like. Those that are left out are counted, and told with the next one.
type complaints struct {
	mu     sync.Mutex
	last   time.Time
	untold int
}

// complain logs a line unless there was one a moment ago. attributes are key and value, in turn.
func (c *complaints) complain(logger *slog.Logger, about string, attributes ...any) {
	c.mu.Lock()
	now := time.Now()
	if now.Sub(c.last) < complainEvery {
		c.untold++
		c.mu.Unlock()
		return
	}
	untold := c.untold
	c.last, c.untold = now, 0
	c.mu.Unlock()
	if untold > 0 {
		attributes = append(attributes, "not_logged_before", untold)
	}
	logger.Warn(about, attributes...)
}
