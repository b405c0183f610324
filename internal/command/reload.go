package command

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/sechlol/go-message-hub/hub"
)

// reloadStep checks and applies the settings of one component of the server. It gets the new
// settings, validates the part that concerns the component, reads the files that the settings
// name, and changes nothing. If the steps of all components succeed, the functions that they
// returned are called. These functions cannot fail; a nil function means that there is nothing
// to apply. If a step fails, no function is called, and its error is shown: the error names
// the setting, the value and the problem. apply uses only reloadable settings of next; changes
// of the others take effect at the next start.
//
// A step runs for -check, before the server starts, and at each reload. It also runs if no
// setting has changed, because the content of a file can have changed.
type reloadStep func(next *server) (apply func(), err error)

// roundUpToKiB rounds bytes up to a multiple of 1 KiB.
func roundUpToKiB(bytes int64) int64 { return (bytes + 1023) &^ 1023 }

// addReloadStep adds a step. Steps added before the server starts also run at the start.
// addReloadStep must not be called once the server runs.
func (c *server) addReloadStep(step reloadStep) { c.reloadSteps = append(c.reloadSteps, step) }

// prepareReload validates the settings of next and returns a function that applies them to all
// components.
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

// validate returns an error if settings contradict each other.
func (c *server) validate() error {
	err := c.hubConfig(nil).Validate()
	minMemory := hub.MinQueuedBytes(int(c.maxBody))
	switch {
	case err == nil:
		return nil
	case c.maxMemory < minMemory:
		return fmt.Errorf("-max-memory=%s is too small for -max-body=%s: the minimum is %s",
			formatSize(c.maxMemory), formatSize(c.maxBody), formatSize(roundUpToKiB(minMemory)))
	case c.maxReportTimeout < c.reportTimeout:
		return fmt.Errorf("-max-report-timeout=%s is below -report-timeout=%s", formatDuration(c.maxReportTimeout), formatDuration(c.reportTimeout))
	}
	return err
}

// reload reads the settings again, from the same command line as at the start, and applies the
// reloadable ones. It logs a warning for each other setting that has changed. If a setting is
// invalid, reload logs an error and changes nothing.
func (c *server) reload(args []string, logger *slog.Logger) {
	next, apply, err := c.rereadSettings(args)
	if err != nil {
		logger.Error("configuration not reloaded, the old settings remain in effect", "error", err)
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
			st.logChange(logger.Warn, "setting requires a restart to change", other)
		}
	}
	logger.Info("configuration reloaded", "changed", changed, "take_a_restart", needRestart)
}

// rereadSettings reads the settings from all sources and returns them with a function that
// applies them.
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

// checkRereadable returns an error if the config file can be read only once, such as a pipe of
// the shell. Reading such a file again would block forever, or find it empty and reset all
// settings to their defaults.
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

// copyFrom copies the value and the origin of other, the same setting of other settings.
func (st *setting) copyFrom(other *setting) {
	if err := st.set(other.get()); err == nil { // cannot fail: other has been checked
		st.origin = other.origin
	}
}
