package hub_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// logBuffer keeps what a hub logs.
type logBuffer struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

// Write adds a line.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// waitFor waits until there is a line with text in it.
func (l *logBuffer) waitFor(t testing.TB, text string) {
	t.Helper()
	eventually(t, "logged: "+text, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Contains(l.lines.String(), text)
	})
}
