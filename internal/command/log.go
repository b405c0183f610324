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

// logLevels are the least levels of log lines that are written, by the names they have in
// settings.
var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// logger returns a logger at the level that is set, but at least at min.
func (s *settings) logger(w io.Writer, minLevel slog.Level) *slog.Logger {
	return newLogger(w, s.logFormat, max(minLevel, logLevels[s.logLevel]))
}

// newLogger returns a logger that writes one line per event from a level on, which
// is asked at each event.
func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == logJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
