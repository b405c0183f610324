package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/notify"
)

// shutdownMargin is the time that shutdown can take in addition to the drain: statistics,
// final frames to clients, and the last lines of the log.
const shutdownMargin = 10 * time.Second

// serviceNotifier reports the state of this process to the service manager. It does nothing
// without a service manager.
type serviceNotifier struct {
	manager  *notify.Manager
	logger   *slog.Logger
	cancel   context.CancelFunc // ends the watchdog goroutine
	watchdog sync.WaitGroup
}

// newServiceNotifier returns a notifier for the service manager in the environment. If the
// service manager cannot be reached, it logs a warning, and the hub serves anyway.
func newServiceNotifier(logger *slog.Logger) *serviceNotifier {
	manager, err := notify.FromEnvironment()
	n := &serviceNotifier{manager: manager, logger: logger, cancel: func() {}}
	n.logFailure(err)
	return n
}

// ready reports that the hub serves. From then on the watchdog is notified as long as alive
// returns no error. The caller must call close.
func (n *serviceNotifier) ready(ln *watchdogListener, alive *liveness) {
	n.logFailure(n.manager.Ready("listening on " + ln.Addr().String()))
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	n.watchdog.Go(func() { // ends with close
		n.manager.RunWatchdog(ctx, alive.err)
	})
}

// reloading reports that the configuration is being reloaded.
func (n *serviceNotifier) reloading() { n.logFailure(n.manager.Reloading()) }

// reloaded reports that the reload is finished, successful or not, and that the hub serves.
func (n *serviceNotifier) reloaded(ln *watchdogListener) {
	n.logFailure(n.manager.Ready("listening on " + ln.Addr().String()))
}

// stopping reports that the hub is shutting down, and that this takes at most drainTimeout
// plus shutdownMargin.
func (n *serviceNotifier) stopping(drainTimeout time.Duration) {
	n.logFailure(n.manager.Stopping(drainTimeout + shutdownMargin))
}

// close stops the watchdog notifications and waits for their goroutine.
func (n *serviceNotifier) close() {
	n.cancel()
	n.watchdog.Wait()
}

func (n *serviceNotifier) logFailure(err error) {
	if err != nil {
		n.logger.Warn("cannot notify the service manager", "error", err)
	}
}
