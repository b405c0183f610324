package settings

import (
	"fmt"
	"io"
	"log/slog"
)

// Warnings are problems of settings that are not errors.
type Warnings struct{ list []string }

// Add adds a warning.
func (w *Warnings) Add(format string, args ...any) {
	w.list = append(w.list, fmt.Sprintf(format, args...))
}

// AddIgnored adds a warning for each ignored part of the file that a setting names.
func (w *Warnings) AddIgnored(setting string, ignored []string) {
	for _, item := range ignored {
		w.Add("%s: ignored: %s", setting, item)
	}
}

// All returns the warnings.
func (w *Warnings) All() []string { return w.list }

// LogTo logs the warnings and clears them.
func (w *Warnings) LogTo(logger *slog.Logger) {
	for _, warning := range w.list {
		logger.Warn("a setting may be wrong", "warning", warning)
	}
	w.list = nil
}

// PrintTo prints the warnings to out, as sentences of program, and clears them.
func (w *Warnings) PrintTo(out io.Writer, program string) {
	for _, warning := range w.list {
		fmt.Fprintf(out, "%s: %s\n", program, warning)
	}
	w.list = nil
}
