package natscluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/limitlog"
)

// probeHeader marks a message that only finds out whether the hub may publish to a subject.
// Receivers ignore messages with headers: frames have none.
const probeHeader = "Hub-Probe"

// carrier is the cluster.Carrier of a Cluster.
type carrier struct{ c *Cluster }

// Carrier returns the carrier of frames to and from the other hubs. Frames that arrive before
// Receive are lost. Close of the carrier ends only the receiving. It must not be called by the
// function that handles frames.
func (c *Cluster) Carrier() cluster.Carrier { return carrier{c} }

// Send implements cluster.Carrier. It blocks for writeTimeout at most, once per connection.
func (k carrier) Send(to cluster.Node, frame []byte) error {
	if len(frame) > cluster.MaxFrame {
		return fmt.Errorf("frame of %d bytes, the maximum is %d", len(frame), cluster.MaxFrame)
	}
	s := k.c.session.Load()
	if s == nil {
		return ErrNotConnected
	}
	subject := allSubject(k.c.config.Name)
	if to != 0 {
		subject = nodeSubject(k.c.config.Name, to)
	}
	if err := s.nc.Publish(subject, frame); err != nil {
		if errors.Is(err, nats.ErrMaxPayload) {
			k.c.logEvent(&payloadError{s.nc.MaxPayload()})
		}
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

// receive handles a message from another hub. Each subscription calls it in a goroutine of its
// own.
func (c *Cluster) receive(m *nats.Msg) {
	if len(m.Header) > 0 {
		return
	}
	c.receiving.Lock()
	defer c.receiving.Unlock()
	if c.handle != nil {
		c.handle(m.Data)
	}
}

// subscribe subscribes to what other hubs send, and checks that the hub may subscribe and
// publish.
func (c *Cluster) subscribe(ctx context.Context, s *session) error {
	subjects := []string{nodeSubject(c.config.Name, c.lease.Node()), allSubject(c.config.Name)}
	for _, subject := range subjects {
		sub, err := s.nc.Subscribe(subject, c.receive)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		if err := sub.SetPendingLimits(maxPendingFrames, maxPendingBytes); err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		s.subscriptions = append(s.subscriptions, sub)
		if err := s.nc.PublishMsg(&nats.Msg{Subject: subject, Header: nats.Header{probeHeader: {""}}}); err != nil {
			return fmt.Errorf("publish to %s: %w", subject, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := s.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if err := s.nc.LastError(); err != nil { // told before the answer to the flush
		return fmt.Errorf("subscribe and publish: %w", err)
	}
	return nil
}

// droppedFrames returns how many frames have arrived and were dropped, because they were not
// handled fast enough.
func (s *session) droppedFrames() (n uint64) {
	for _, sub := range s.subscriptions {
		if dropped, err := sub.Dropped(); err == nil {
			n += uint64(dropped)
		}
	}
	return n
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
