package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
)

// CheckRereadable returns an error if the config file can be read only once, such as a pipe of
// the shell. Reading such a file again would block forever, or find it empty and reset all
// settings to their defaults.
func (s *Settings) CheckRereadable() error {
	if s.configPath == "" {
		return nil
	}
	info, err := os.Stat(s.configPath)
	if err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("config file: " + Quote(s.configPath) + " is not a regular file and can be read only once")
	}
	return nil
}

// Adopt copies the values of the reloadable settings from next, which are the same settings, read
// again. It logs each setting that has changed, and logs a warning if the change requires a
// restart. It returns how many settings have changed, and how many require a restart.
func (s *Settings) Adopt(next *Settings, logger *slog.Logger) (changed, needRestart int) {
	for i, st := range s.list {
		switch other := next.list[i]; {
		case other.get() == st.get():
			st.Origin = other.Origin
		case st.Is(Reloadable):
			changed++
			st.logChange(logger.Info, "setting changed", other)
			st.copyFrom(other)
		default:
			needRestart++
			st.logChange(logger.Warn, "setting requires a restart to change", other)
		}
	}
	return changed, needRestart
}
