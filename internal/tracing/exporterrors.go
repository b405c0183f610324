package tracing

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// logInterval is the minimum time between two log lines, because a collector can be down for
	// days.
	logInterval = time.Minute

	// maxErrorLen is the maximum length of a logged error, in bytes. An error can contain the
	// response of a server.
	maxErrorLen = 300
)

// exportErrors logs errors of the export of spans, at most one per logInterval, and counts the
// lost spans. It is safe for concurrent use.
type exportErrors struct {
	// Static after construction.
	logger *slog.Logger

	// Guarded by mu.
	mu         sync.Mutex
	lastLogged time.Time
	text       string // of the last error
	lostSpans  int    // since the last log line
	pending    bool   // an error was recorded since the last log line
}

// record records an error that lost so many spans. It logs the error unless the last log line is
// younger than logInterval.
func (e *exportErrors) record(err error, lost int) {
	e.mu.Lock()
	e.lostSpans += lost
	e.text = strings.ToValidUTF8(err.Error(), "")
	e.text = strings.ToValidUTF8(e.text[:min(len(e.text), maxErrorLen)], "")
	e.pending = true
	e.unlockAndLog(time.Since(e.lastLogged) >= logInterval)
}

// flush logs the errors that were not logged yet.
func (e *exportErrors) flush() {
	e.mu.Lock()
	e.unlockAndLog(e.pending)
}

// unlockAndLog unlocks mu. If due is true, it then logs the last error and the count of lost
// spans.
func (e *exportErrors) unlockAndLog(due bool) {
	text, lost := e.text, e.lostSpans
	if due {
		e.lastLogged, e.lostSpans, e.pending = time.Now(), 0, false
	}
	e.mu.Unlock()
	if due {
		e.logger.Warn("traces could not be sent", "error", text, "spans_lost", lost)
	}
}
