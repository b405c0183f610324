package natscluster

import (
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/limitlog"
)

// carrier is the cluster.Carrier of a Cluster.
type carrier struct{ c *Cluster }

// Carrier returns the carrier of frames to and from the other hubs. Frames that arrive before
// Receive are lost. Close of the carrier ends only the receiving. It must not be called by the
// function that handles frames.
func (c *Cluster) Carrier() cluster.Carrier { return carrier{c} }

// Send implements cluster.Carrier. It blocks for writeTimeout at most, and so does each Send that
// came before it and has not been written yet.
func (k carrier) Send(to cluster.Node, frame []byte) error {
	if len(frame) > cluster.MaxFrame {
		return fmt.Errorf("frame of %d bytes, the maximum is %d", len(frame), cluster.MaxFrame)
	}
	s := k.c.session.Load()
	if s == nil {
		return ErrNotConnected
	}
	var buf [maxSubject]byte
	if err := s.frames.Publish(appendSubject(buf[:0], k.c.config.Name, to), frame); err != nil {
		return fmt.Errorf("send to NATS: %w", err)
	}
	return nil
}

// Receive implements cluster.Carrier.
func (k carrier) Receive(handle func(frame []byte)) { k.c.setHandle(handle) }

// Close implements cluster.Carrier.
func (k carrier) Close() error {
	k.c.setHandle(nil)
	return nil
}

// setHandle sets the function that handles frames. The earlier one does not run any more.
func (c *Cluster) setHandle(handle func(frame []byte)) {
	c.receiving.Lock()
	defer c.receiving.Unlock()
	c.handle = handle
}

// receive handles a frame from another hub. The connection for frames calls it.
func (c *Cluster) receive(frame []byte) {
	c.receiving.Lock()
	defer c.receiving.Unlock()
	if c.handle != nil {
		c.handle(frame)
	}
}

// handleAsyncError is called with what nats.go tells beside the results of its functions.
func (c *Cluster) handleAsyncError(s *session, _ *nats.Subscription, err error) {
	if s.isOpened() {
		c.logEvent(err)
	}
}

// logEvent logs a problem with an open connection. The text of a missing permission names the
// subject, so that there is a line for each.
func (c *Cluster) logEvent(err error) { c.logWarn(&c.events, "problem with NATS", err) }

// logWarn logs an error with advice, unless limiter has had a line with this error too recently.
func (c *Cluster) logWarn(limiter *limitlog.Limiter, message string, err error) {
	skipped, ok := limiter.Allow(err.Error())
	if !ok {
		return
	}
	attrs := append(make([]any, 0, 8), "cluster", c.config.Name, "error", err, "advice", Advice(err))
	if skipped > 0 {
		attrs = append(attrs, "not_logged_before", skipped)
	}
	c.config.Logger.Warn(message, attrs...)
}
