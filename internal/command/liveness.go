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
	// maxAccept is how long the hub may take from accepting one connection to asking for the next.
	// It is the work of microseconds.
	maxAccept = 5 * time.Second

	// maxCheck is how long a check of the hub may take. It is the work of microseconds too.
	maxCheck = 2 * time.Second
)

var (
	errNoAccept = errors.New("the hub has not come back to accept")
	errNoAnswer = errors.New("the hub does not give its locks")
)

// liveness is the one judgement of whether the hub works, for the watchdog of the service manager and
// for the probes of the admin address. Its methods may be called concurrently.
type liveness struct {
	check  func() error
	checks singleflight.Group
}

// newLiveness returns the liveness of a hub that accepts from door.
func newLiveness(h *hub.Hub, door *door) *liveness {
	return &liveness{check: func() error { return door.alive(time.Now(), h) }}
}

// err returns why the hub does not work, and nil while it does. It takes maxCheck at most: of a hub that
// hangs one check waits, however often it is asked.
func (l *liveness) err() error {
	enough := time.NewTimer(maxCheck)
	defer enough.Stop()
	select {
	case result := <-l.checks.DoChan("", func() (any, error) { return nil, l.check() }):
		return result.Err
	case <-enough.C:
		return errNoAnswer
	}
}

// processStart is what the times of a door count from: it makes no garbage for each connection.
var processStart = time.Now()

// door is a listener that knows whether the one who accepts from it comes back for more.
type door struct {
	net.Listener
	since atomic.Int64 // when a connection was accepted that is not admitted yet, in ns since processStart; 0: none is
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	d.since.Store(0)
	conn, err := d.Listener.Accept()
	if err == nil {
		d.since.Store(int64(time.Since(processStart)))
	}
	return conn, err
}

// alive returns nil if h lets clients in, and answers. It hangs when h does. It makes no
// connection of its own: that would be a client for all to see, and fail in a hub that is
// full, which is no reason to end it.
func (d *door) alive(now time.Time, h *hub.Hub) error {
	h.Stats() // takes the lock of the clients, and those of the memory
	if since := d.since.Load(); since != 0 && now.Sub(processStart)-time.Duration(since) > maxAccept {
		return errNoAccept
	}
	return nil
}
