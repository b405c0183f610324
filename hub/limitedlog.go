package hub

import (
	"log/slog"
	"sync"
	"time"
)

// limitedLogInterval is how often the same complaint is logged: whoever can connect can make
// the hub complain, and must not fill its log.
const limitedLogInterval = time.Second

// limitedLog are log lines about something that others can make happen as often as they
// like. Those that are left out are counted, and told with the next one.
type limitedLog struct {
	mu         sync.Mutex
	lastLogged time.Time
	suppressed int
}

// logWarn logs a line unless there was one a moment ago. attributes are key and value, in turn.
func (l *limitedLog) logWarn(logger *slog.Logger, msg string, attrs ...any) {
	l.mu.Lock()
	now := time.Now()
	if now.Sub(l.lastLogged) < limitedLogInterval {
		l.suppressed++
		l.mu.Unlock()
		return
	}
	suppressed := l.suppressed
	l.lastLogged, l.suppressed = now, 0
	l.mu.Unlock()
	if suppressed > 0 {
		attrs = append(attrs, "not_logged_before", suppressed)
	}
	logger.Warn(msg, attrs...)
}
