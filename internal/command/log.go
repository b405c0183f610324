package command

import (
	"io"
	"log/slog"
)

// The formats of log lines.
const (
	logText = "text"
	logJSON = "json"
)

// logLevels maps the values of -log-level to levels.
var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// logger returns a logger that writes to w from the level of -log-level on, but not below
// minLevel.
func (s *settings) logger(w io.Writer, minLevel slog.Level) *slog.Logger {
	return newLogger(w, s.logFormat, max(minLevel, logLevels[s.logLevel]))
}

// newLogger returns a logger that writes one line per event, from level on. It reads level at
// each event.
func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == logJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
