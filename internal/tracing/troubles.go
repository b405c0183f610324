package tracing

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// tellEvery is how often troubles are logged: a collector may be away for days.
	tellEvery = time.Minute

	// textMost is how many bytes of an error are logged: it may contain what a server has answered.
	textMost = 300
)

// troubles are log lines about spans that could not be sent. Those that are left out are counted.
type troubles struct {
	logger *slog.Logger // static

	mu     sync.Mutex
	last   time.Time
	text   string // of the last error
	lost   int    // spans, since the last line
	untold bool   // something was left out
}

// tell logs an error that has cost so many spans, unless there was one a moment ago.
func (t *troubles) tell(err error, lost int) {
	t.mu.Lock()
	t.lost += lost
	t.text = strings.ToValidUTF8(err.Error(), "")
	t.text = strings.ToValidUTF8(t.text[:min(len(t.text), textMost)], "")
	t.untold = true
	t.log(time.Since(t.last) >= tellEvery)
}

// tellRest logs what was left out.
func (t *troubles) tellRest() {
	t.mu.Lock()
	t.log(t.untold)
}

// log unlocks mu, and logs then if it is due.
func (t *troubles) log(due bool) {
	text, lost := t.text, t.lost
	if due {
		t.last, t.lost, t.untold = time.Now(), 0, false
	}
	t.mu.Unlock()
	if due {
		t.logger.Warn("traces could not be sent", "error", text, "spans_lost", lost)
	}
}
