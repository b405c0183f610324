package command

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/sechlol/go-message-hub/hub"
)

// part is how a part of the server follows the configuration. It is given the
// settings that are to count, looks whether it can do with them, reads the files
// that they name, and changes nothing. If all parts can, the functions that they returned
// are called, which must not fail; nil is nothing to do. Otherwise none is, and the
// error is shown: it names the setting, its value and what is wrong. Of next, apply takes
// only what is marked reloadable: the rest does not count before the next start.
//
// It is called for -check, before the server starts, and at each reload, also when
// no setting has changed: a file that one of them names may have.
type part func(next *server) (apply func(), err error)

// roundUp returns the next whole number of KiB.
func roundUp(bytes int64) int64 { return (bytes + 1023) &^ 1023 }

// follow adds a part. One that is added before the server starts is asked then too.
// It may be called until the server runs.
func (c *server) follow(p part) { c.parts = append(c.parts, p) }

// prepare looks whether next could count instead of what c has, and returns a function that
// makes it so in all parts.
func (c *server) prepare(next *server) (apply func(), err error) {
	if err := next.validate(); err != nil {
		return nil, err
	}
	if err := next.proxied.check(); err != nil {
		return nil, err
	}
	var all []func()
	for _, part := range c.parts {
		apply, err := part(next)
		if err != nil {
			return nil, err
		}
		if apply != nil {
			all = append(all, apply)
		}
	}
	return func() {
		for _, apply := range all {
			apply()
		}
	}, nil
}

// validate returns which settings do not fit together, if so.
func (c *server) validate() error {
	err := c.hubConfig(nil).Validate()
	minMemory := hub.LeastQueuedBytes(int(c.maxBody))
	switch {
	case err == nil:
		return nil
	case c.maxMemory < minMemory:
		return fmt.Errorf("-max-memory=%s is too little for -max-body=%s: that takes %s at least",
			formatSize(c.maxMemory), formatSize(c.maxBody), formatSize(roundUp(minMemory)))
	case c.maxReport < c.report:
		return fmt.Errorf("-max-report-timeout=%s is below -report-timeout=%s", formatSpan(c.maxReport), formatSpan(c.report))
	}
	return err
}

// reload reads the settings again as at the start, with the same command line, and applies
// those that are reloadable. For others that have changed it says that they take a
// restart. When something is wrong, it says so and changes nothing.
func (c *server) reload(args []string, logger *slog.Logger) {
	next, apply, err := c.readAgain(args)
	if err != nil {
		logger.Error("the configuration was not reloaded, everything stays as it was", "error", err)
		return
	}
	apply()
	next.settings.logWarnings(logger)
	changed, waiting := 0, 0
	for i, one := range c.settings.list {
		switch other := next.settings.list[i]; {
		case other.get() == one.get():
			one.origin = other.origin
		case one.is(reloadable):
			changed++
			one.logChange(logger.Info, "setting changed", other)
			one.take(other)
		default:
			waiting++
			one.logChange(logger.Warn, "setting takes a restart to change", other)
		}
	}
	logger.Info("configuration reloaded", "changed", changed, "take_a_restart", waiting)
}

// readAgain returns the settings as they are now in all sources, and what applies them.
func (c *server) readAgain(args []string) (next *server, apply func(), err error) {
	next = newServer()
	if err = c.settings.canReadAgain(); err == nil {
		err = next.settings.read(args)
	}
	if err == nil {
		apply, err = c.prepare(next)
	}
	return next, apply, err
}

// canReadAgain returns an error when the config file is something that says what it
// has to say only once, such as a pipe of the shell: opening that again would wait for ever, or find
// it empty and set everything back to its default.
func (s *settings) canReadAgain() error {
	if s.config == "" {
		return nil
	}
	info, err := os.Stat(s.config)
	if err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("config file: " + shown(s.config) + " is not a regular file and can be read only once")
	}
	return nil
}

// take takes the value of the same setting of other settings.
func (one *setting) take(other *setting) {
	if err := one.set(other.get()); err == nil { // other was read by the same rules
		one.origin = other.origin
	}
}
