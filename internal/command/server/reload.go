package server

import "log/slog"

// reloadStep checks and applies the settings of one component of the program. It gets the new
// settings, validates the part that concerns the component, reads the files that the settings
// name, and changes nothing. If the steps of all components succeed, the functions that they
// returned are called. These functions cannot fail; a nil function means that there is nothing
// to apply. If a step fails, no function is called, and its error is shown: the error names
// the setting, the value and the problem. apply uses only reloadable settings of next; changes
// of the others take effect at the next start.
//
// A step runs for -check, before the server starts, and at each reload. It also runs if no
// setting has changed, because the content of a file can have changed.
type reloadStep func(next *config) (apply func(), err error)

// reloader validates the settings and applies them to the components of the program, at the start
// and at each reload.
type reloader struct{ steps []reloadStep }

// add adds a step. Steps added before the server starts also run at the start. add must not be
// called once the server runs.
func (r *reloader) add(step reloadStep) { r.steps = append(r.steps, step) }

// prepare validates the settings of next and returns a function that applies them to all
// components.
func (r *reloader) prepare(next *config) (apply func(), err error) {
	if err := next.validate(); err != nil {
		return nil, err
	}
	var applyFuncs []func()
	for _, step := range r.steps {
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

// reload reads the settings of current again, from the same command line as at the start, and
// applies the reloadable ones. It logs a warning for each other setting that has changed. If a
// setting is invalid, reload logs an error and changes nothing.
func (r *reloader) reload(current *config, args []string, logger *slog.Logger) {
	next, apply, err := r.reread(current, args)
	if err != nil {
		logger.Error("configuration not reloaded, the old settings remain in effect", "error", err)
		return
	}
	apply()
	next.settings.Warnings.LogTo(logger)
	changed, needRestart := current.settings.Adopt(next.settings, logger)
	logger.Info("configuration reloaded", "changed", changed, "take_a_restart", needRestart)
}

// reread reads the settings from all sources and returns them with a function that applies them.
func (r *reloader) reread(current *config, args []string) (next *config, apply func(), err error) {
	next = newConfig()
	if err = current.settings.CheckRereadable(); err == nil {
		err = next.settings.Read(args)
	}
	if err == nil {
		apply, err = r.prepare(next)
	}
	return next, apply, err
}
