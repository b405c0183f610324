package command

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/notify"
)

const (
	// admitMost is how long the hub may take to let one client in before it is said to
	// hang. It is the work of microseconds.
	admitMost = 5 * time.Second

	// endMost is what the end of a hub may take beyond its drain: statistics, the
	// last words of those who are sent away.
	endMost = 10 * time.Second
)

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

// ready says that the hub serves, and from now on that it still does, as far as door and
// the hub's own locks can tell. close must follow.
func (s *service) ready(work *served, door *door) {
	s.logFailure(s.manager.Ready("listening on " + door.Addr().String()))
	var ctx context.Context
	ctx, s.end = context.WithCancel(context.Background())
	s.pings.Go(func() { // ends with close
		s.manager.Watch(ctx, func() error { return door.alive(time.Now(), work.hub) })
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
	s.logFailure(s.manager.Stopping(drain + endMost))
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

// door is a listener that knows whether the one who accepts from it comes back for more.
type door struct {
	net.Listener
	since atomic.Pointer[time.Time] // when somebody came in who is not admitted yet; nil: nobody
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	d.since.Store(nil)
	conn, err := d.Listener.Accept()
	if err == nil {
		now := time.Now()
		d.since.Store(&now)
	}
	return conn, err
}

var errHangs = errors.New("the hub has not come back to accept")

// alive returns nil if h lets clients in, and answers. It hangs when h does. It makes no
// connection of its own: that would be a client for all to see, and fail in a hub that is
// full, which is no reason to end it.
func (d *door) alive(now time.Time, h *hub.Hub) error {
	h.Stats() // takes the lock of those who are connected, and those of the memory
	if since := d.since.Load(); since != nil && now.Sub(*since) > admitMost {
		return errHangs
	}
	return nil
}
