package natscluster

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sechlol/go-message-hub/internal/cluster/lease"
)

// holdLease renews the lease until ctx ends, or until another hub has the number.
func (c *Cluster) holdLease(ctx context.Context) {
	watched := make(chan struct{})
	watchCtx, cancel := context.WithCancel(ctx)
	go func() { // ends with watchCtx; holdLease waits for it
		defer close(watched)
		c.logLease(watchCtx)
	}()
	if err := c.lease.Run(ctx); err != nil {
		c.setFatal(err)
		c.config.Logger.Error("the hub has lost its number", "error", err, "advice", Advice(err))
	}
	cancel()
	<-watched
}

// logLease logs when the lease runs out and when it is good again.
func (c *Cluster) logLease(ctx context.Context) {
	for wasValid := true; ; {
		changed := c.lease.Changed()
		switch valid := c.lease.Valid(); {
		case valid == wasValid:
		case valid:
			c.config.Logger.Info("the hub has its lease again", "node", uint32(c.Node()))
		default:
			c.config.Logger.Warn("the lease of the hub has run out", "node", uint32(c.Node()), "advice", "see the lines about NATS before this one")
		}
		wasValid = c.lease.Valid()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// handleRenewal is called after each renewal of the lease.
func (c *Cluster) handleRenewal(err error) {
	s := c.session.Load()
	switch {
	case err == nil:
		c.renewals.Reset()
		return
	case s == nil || errors.Is(err, lease.ErrTaken):
		return // logged by others
	}
	err = s.permissionError(err)
	c.logWarn(&c.renewals, "the lease of the hub is not renewed, trying again", err)
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) {
		c.restoreBuckets(s)
	}
}

// restoreBuckets creates buckets that were deleted. A bucket that only has no leader at the moment
// also gives no response: it exists, and nothing changes.
func (c *Cluster) restoreBuckets(s *session) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if err := c.prepareBuckets(ctx, s); err != nil {
		c.config.Logger.Debug("the buckets of the cluster cannot be opened", "error", err)
	}
}
