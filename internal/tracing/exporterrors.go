package tracing

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// logInterval is how often troubles are logged: a collector may be away for days.
	logInterval = time.Minute

	// maxErrorLen is how many bytes of an error are logged: it may contain what a server has answered.
	maxErrorLen = 300
)

// exportErrors are log lines about spans that could not be sent. Those that are left out are counted.
type exportErrors struct {
	logger *slog.Logger // static

	mu         sync.Mutex
	lastLogged time.Time
	text       string // of the last error
	lostSpans  int    // spans, since the last line
	pending    bool   // something was left out
}

// record logs an error that has cost so many spans, unless there was one a moment ago.
func (e *exportErrors) record(err error, lost int) {
	e.mu.Lock()
	e.lostSpans += lost
	e.text = strings.ToValidUTF8(err.Error(), "")
	e.text = strings.ToValidUTF8(e.text[:min(len(e.text), maxErrorLen)], "")
	e.pending = true
	e.unlockAndLog(time.Since(e.lastLogged) >= logInterval)
}

// flush logs what was left out.
func (e *exportErrors) flush() {
	e.mu.Lock()
	e.unlockAndLog(e.pending)
}

// unlockAndLog unlocks mu, and logs then if it is due.
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
