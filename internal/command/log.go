package command

import (
	"io"
	"log/slog"
)

// The forms of log lines.
const (
	logText = "text"
	logJSON = "json"
)

// newLogger returns a logger that writes one line per event from a level on.
func newLogger(w io.Writer, form string, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if form == logJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
