package command

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/sechlol/go-message-hub/hub"
)

// reloadStep is how a part of the server follows the configuration. It is given the
// settings that are to count, looks whether it can do with them, reads the files
// that they name, and changes nothing. If all parts can, the functions that they returned
// are called, which must not fail; nil is nothing to do. Otherwise none is, and the
// error is shown: it names the setting, its value and what is wrong. Of next, apply takes
// only what is marked reloadable: the rest does not count before the next start.
//
// It is called for -check, before the server starts, and at each reload, also when
// no setting has changed: a file that one of them names may have.
type reloadStep func(next *server) (apply func(), err error)

// roundUpToKiB returns the next whole number of KiB.
func roundUpToKiB(bytes int64) int64 { return (bytes + 1023) &^ 1023 }

// addReloadStep adds a part. One that is added before the server starts is asked then too.
// It may be called until the server runs.
func (c *server) addReloadStep(step reloadStep) { c.reloadSteps = append(c.reloadSteps, step) }

// prepareReload looks whether next could count instead of what c has, and returns a function that
// makes it so in all parts.
func (c *server) prepareReload(next *server) (apply func(), err error) {
	if err := next.validate(); err != nil {
		return nil, err
	}
	if err := next.proxy.validate(); err != nil {
		return nil, err
	}
	var applyFuncs []func()
	for _, step := range c.reloadSteps {
		apply, err := step(next)
		if err != nil {
			return nil, err
		}
		if apply != nil {
			applyFuncs = append(applyFuncs, apply)
		}
	}
	return func() {
		for _, apply := range applyFuncs {
			apply()
		}
	}, nil
}

// validate returns which settings do not fit together, if so.
func (c *server) validate() error {
	err := c.hubConfig(nil).Validate()
	minMemory := hub.MinQueuedBytes(int(c.maxBody))
	switch {
	case err == nil:
		return nil
	case c.maxMemory < minMemory:
		return fmt.Errorf("-max-memory=%s is too little for -max-body=%s: that takes %s at least",
			formatSize(c.maxMemory), formatSize(c.maxBody), formatSize(roundUpToKiB(minMemory)))
	case c.maxReportTimeout < c.reportTimeout:
		return fmt.Errorf("-max-report-timeout=%s is below -report-timeout=%s", formatDuration(c.maxReportTimeout), formatDuration(c.reportTimeout))
	}
	return err
}

// reload reads the settings again as at the start, with the same command line, and applies
// those that are reloadable. For others that have changed it says that they take a
// restart. When something is wrong, it says so and changes nothing.
func (c *server) reload(args []string, logger *slog.Logger) {
	next, apply, err := c.rereadSettings(args)
	if err != nil {
		logger.Error("the configuration was not reloaded, everything stays as it was", "error", err)
		return
	}
	apply()
	next.settings.logWarnings(logger)
	changed, needRestart := 0, 0
	for i, st := range c.settings.list {
		switch other := next.settings.list[i]; {
		case other.get() == st.get():
			st.origin = other.origin
		case st.is(reloadable):
			changed++
			st.logChange(logger.Info, "setting changed", other)
			st.copyFrom(other)
		default:
			needRestart++
			st.logChange(logger.Warn, "setting takes a restart to change", other)
		}
	}
	logger.Info("configuration reloaded", "changed", changed, "take_a_restart", needRestart)
}

// rereadSettings returns the settings as they are now in all sources, and what applies them.
func (c *server) rereadSettings(args []string) (next *server, apply func(), err error) {
	next = newServer()
	if err = c.settings.checkRereadable(); err == nil {
		err = next.settings.read(args)
	}
	if err == nil {
		apply, err = c.prepareReload(next)
	}
	return next, apply, err
}

// checkRereadable returns an error when the config file is something that says what it
// has to say only once, such as a pipe of the shell: opening that again would wait for ever, or find
// it empty and set everything back to its default.
func (s *settings) checkRereadable() error {
	if s.configPath == "" {
		return nil
	}
	info, err := os.Stat(s.configPath)
	if err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("config file: " + quoted(s.configPath) + " is not a regular file and can be read only once")
	}
	return nil
}

// copyFrom takes the value of the same setting of other settings.
func (st *setting) copyFrom(other *setting) {
	if err := st.set(other.get()); err == nil { // other was read by the same rules
		st.origin = other.origin
	}
}
