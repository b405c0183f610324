package command

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/notify"
)

// shutdownMargin is what the end of a hub may take beyond its drain: statistics, the last words to those
// who are sent away, the last lines of the log.
const shutdownMargin = 10 * time.Second

// serviceNotifier is this process as a service manager sees it, if one has started it.
type serviceNotifier struct {
	manager  *notify.Manager
	logger   *slog.Logger
	cancel   context.CancelFunc // of the pings
	watchdog sync.WaitGroup
}

// newServiceNotifier finds out who has started this process. A manager that cannot be spoken to is no
// reason not to serve.
func newServiceNotifier(logger *slog.Logger) *serviceNotifier {
	manager, err := notify.FromEnvironment()
	n := &serviceNotifier{manager: manager, logger: logger, cancel: func() {}}
	n.logFailure(err)
	return n
}

// ready says that the hub serves, and from now on that it still does, as long as alive says so. close
// must follow.
func (n *serviceNotifier) ready(ln *watchdogListener, alive *liveness) {
	n.logFailure(n.manager.Ready("listening on " + ln.Addr().String()))
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	n.watchdog.Go(func() { // ends with close
		n.manager.RunWatchdog(ctx, alive.err)
	})
}

// reloading says that the configuration is being read again.
func (n *serviceNotifier) reloading() { n.logFailure(n.manager.Reloading()) }

// reloaded says that the hub serves on, with a new configuration or the old one.
func (n *serviceNotifier) reloaded(ln *watchdogListener) {
	n.logFailure(n.manager.Ready("listening on " + ln.Addr().String()))
}

// stopping says that the hub ends, and how long its queues may take to empty.
func (n *serviceNotifier) stopping(drainTimeout time.Duration) {
	n.logFailure(n.manager.Stopping(drainTimeout + shutdownMargin))
}

// close ends the pings.
func (n *serviceNotifier) close() {
	n.cancel()
	n.watchdog.Wait()
}

func (n *serviceNotifier) logFailure(err error) {
	if err != nil {
		n.logger.Warn("cannot speak to the service manager", "error", err)
	}
}
