package hub_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// logbook keeps what a hub logs.
type logbook struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

// Write adds a line.
func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// has waits until there is a line with text in it.
func (l *logbook) has(t testing.TB, text string) {
	t.Helper()
	eventually(t, "logged: "+text, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Contains(l.lines.String(), text)
	})
}
