package command

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/sechlol/go-message-hub/hub"
)

const (
	// acceptTimeout is how long the hub may take from accepting one connection to asking for the next.
	// It is the work of microseconds.
	acceptTimeout = 5 * time.Second

	// checkTimeout is how long a check of the hub may take. It is the work of microseconds too.
	checkTimeout = 2 * time.Second
)

var (
	errAcceptStalled = errors.New("the hub has not come back to accept")
	errCheckTimeout  = errors.New("the hub does not give its locks")
)

// liveness is the one judgement of whether the hub works, for the watchdog of the service manager and
// for the probes of the admin address. Its methods may be called concurrently.
type liveness struct {
	check  func() error
	checks singleflight.Group
}

// newLiveness returns the liveness of a hub that accepts from door.
func newLiveness(h *hub.Hub, ln *watchdogListener) *liveness {
	return &liveness{check: func() error { return ln.check(time.Now(), h) }}
}

// err returns why the hub does not work, and nil while it does. It takes checkTimeout at most: of a hub that
// hangs one check waits, however often it is asked.
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

// processStart is what the times of a door count from: it makes no garbage for each connection.
var processStart = time.Now()

// watchdogListener is a listener that knows whether the one who accepts from it comes back for more.
type watchdogListener struct {
	net.Listener
	acceptedAt atomic.Int64 // when a connection was accepted that is not admitted yet, in ns since processStart; 0: none is
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

// check returns nil if h lets clients in, and answers. It hangs when h does. It makes no
// connection of its own: that would be a client for all to see, and fail in a hub that is
// full, which is no reason to end it.
func (l *watchdogListener) check(now time.Time, h *hub.Hub) error {
	h.Stats() // takes the lock of the clients, and those of the memory
	if acceptedAt := l.acceptedAt.Load(); acceptedAt != 0 && now.Sub(processStart)-time.Duration(acceptedAt) > acceptTimeout {
		return errAcceptStalled
	}
	return nil
}
