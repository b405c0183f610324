package server

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/sechlol/go-message-hub/hub"
)

const (
	// acceptTimeout is the maximum time between accepting a connection and the next call of
	// Accept, which normally takes microseconds.
	acceptTimeout = 5 * time.Second

	// checkTimeout is the maximum duration of a health check, which normally takes microseconds.
	checkTimeout = 2 * time.Second
)

var (
	errAcceptStalled = errors.New("the hub has stopped accepting connections")
	errCheckTimeout  = errors.New("the health check of the hub timed out")
)

// liveness checks whether the hub works, for the watchdog of the service manager and for the
// probes of the admin address. Its methods can be called concurrently.
type liveness struct {
	check  func() error
	checks singleflight.Group
}

// newLiveness returns the liveness of a hub that accepts connections from ln.
func newLiveness(h *hub.Hub, ln *watchdogListener) *liveness {
	return &liveness{check: func() error { return ln.check(time.Now(), h) }}
}

// err returns nil while the hub works, and otherwise the failure. It returns within
// checkTimeout. All concurrent calls share one check, and at most one check waits for a hub
// that hangs.
func (l *liveness) err() error {
	timer := time.NewTimer(checkTimeout)
	defer timer.Stop()
	select {
	case result := <-l.checks.DoChan("", func() (any, error) { return nil, l.check() }):
		return result.Err
	case <-timer.C:
		return errCheckTimeout
	}
}

// processStart is the origin of the times of watchdogListener. Times relative to processStart
// fit in an integer, which does not allocate.
var processStart = time.Now()

// watchdogListener is a listener that detects an accept loop that has stopped calling Accept.
type watchdogListener struct {
	net.Listener
	acceptedAt atomic.Int64 // time of the last Accept, in ns since processStart; 0 while Accept waits
}

// Accept implements net.Listener.
func (l *watchdogListener) Accept() (net.Conn, error) {
	l.acceptedAt.Store(0)
	conn, err := l.Listener.Accept()
	if err == nil {
		l.acceptedAt.Store(int64(time.Since(processStart)))
	}
	return conn, err
}

// check returns nil if h accepts connections and its locks are available. It blocks while h
// holds its locks. It does not connect to h, because a connection would be visible to all
// clients, and would fail if h is full, which is not a failure of h.
func (l *watchdogListener) check(now time.Time, h *hub.Hub) error {
	h.Stats() // takes the lock of the registry and those of the budget
	if acceptedAt := l.acceptedAt.Load(); acceptedAt != 0 && now.Sub(processStart)-time.Duration(acceptedAt) > acceptTimeout {
		return errAcceptStalled
	}
	return nil
}
