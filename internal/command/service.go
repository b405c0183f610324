package command

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/notify"
)

// maxEnd is what the end of a hub may take beyond its drain: statistics, the last words to those
// who are sent away, the last lines of the log.
const maxEnd = 10 * time.Second

// service is this process as a service manager sees it, if one has started it.
type service struct {
	manager *notify.Manager
	logger  *slog.Logger
	end     context.CancelFunc // of the pings
	pings   sync.WaitGroup
}

// newService finds out who has started this process. A manager that cannot be spoken to is no
// reason not to serve.
func newService(logger *slog.Logger) *service {
	manager, err := notify.FromEnvironment()
	s := &service{manager: manager, logger: logger, end: func() {}}
	s.logFailure(err)
	return s
}

// ready says that the hub serves, and from now on that it still does, as long as alive says so. close
// must follow.
func (s *service) ready(door *door, alive *liveness) {
	s.logFailure(s.manager.Ready("listening on " + door.Addr().String()))
	var ctx context.Context
	ctx, s.end = context.WithCancel(context.Background())
	s.pings.Go(func() { // ends with close
		s.manager.Watch(ctx, alive.err)
	})
}

// reloading says that the configuration is being read again.
func (s *service) reloading() { s.logFailure(s.manager.Reloading()) }

// reloaded says that the hub serves on, with a new configuration or the old one.
func (s *service) reloaded(door *door) {
	s.logFailure(s.manager.Ready("listening on " + door.Addr().String()))
}

// stopping says that the hub ends, and how long its queues may take to empty.
func (s *service) stopping(drain time.Duration) {
	s.logFailure(s.manager.Stopping(drain + maxEnd))
}

// close ends the pings.
func (s *service) close() {
	s.end()
	s.pings.Wait()
}

func (s *service) logFailure(err error) {
	if err != nil {
		s.logger.Warn("cannot speak to the service manager", "error", err)
	}
}
