package settings

import (
	"io"
	"log/slog"
)

// The formats of log lines.
const (
	LogText = "text"
	LogJSON = "json"
)

// logLevels maps the values of -log-level to levels.
var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// NewLogger returns a logger that writes one line per event, from level on. It reads level at
// each event.
func NewLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == LogJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
