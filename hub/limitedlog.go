package hub

import (
	"log/slog"
	"sync"
	"time"
)

// limitedLogInterval is the minimum time between two log lines of one limitedLog. Without it
// any client that can connect could fill the log.
const limitedLogInterval = time.Second

// limitedLog limits the rate of log lines about one kind of event that remote parties can
// cause at any rate. It counts the suppressed lines and adds their number to the next line.
type limitedLog struct {
	mu         sync.Mutex
	lastLogged time.Time
	suppressed int
}

// logWarn logs a line at level WARN, unless the last line was logged less than
// limitedLogInterval ago. attrs are alternating keys and values.
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
