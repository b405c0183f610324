package natscluster

import (
	"errors"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/internal/cluster"
)

// ErrLease is the error of a hub whose lease may have run out.
var ErrLease = errors.New("the lease of the hub may have run out")

// Status is the state of the connection of a hub to its cluster.
type Status struct {
	Node       cluster.Node
	Connected  bool
	Server     string    // to which the hub is connected, without credentials; empty: none
	Since      time.Time // when the connection was opened or lost
	Cause      error     // why there is no connection; nil: there is one
	LeaseValid bool
	LeaseUntil time.Time
}

// Status returns the current state.
func (c *Cluster) Status() Status {
	status := Status{Node: c.Node(), LeaseValid: c.lease.Valid(), LeaseUntil: c.lease.Until()}
	if s := c.session.Load(); s != nil {
		status.Connected, status.Server = true, s.server
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	status.Since, status.Cause = c.since, c.cause
	return status
}

// Err returns nil if the hub is connected and has its lease, and otherwise the reason.
func (c *Cluster) Err() error {
	c.mu.Lock()
	fatal, cause, since := c.fatal, c.cause, c.since
	c.mu.Unlock()
	switch {
	case fatal != nil:
		return fatal
	case cause != nil:
		return fmt.Errorf("%w since %s: %w", ErrNotConnected, since.UTC().Format(time.RFC3339), cause)
	case !c.lease.Valid():
		return ErrLease
	}
	return nil
}

func (c *Cluster) setConnected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since, c.cause = time.Now(), nil
}

func (c *Cluster) setLost(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since, c.cause = time.Now(), cause
}

func (c *Cluster) setCause(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cause = cause
}

func (c *Cluster) setFatal(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fatal = err
}
