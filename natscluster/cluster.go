package natscluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/lease"
	"github.com/sechlol/go-message-hub/internal/limitlog"
)

const (
	// The pauses between attempts to connect. They begin short because a server that restarts is
	// back in less than a second.
	minRetryPause = 100 * time.Millisecond
	maxRetryPause = 2 * time.Second

	// A session that ends before minSessionTime is followed by a pause, unless it is the first: a
	// server can accept a hub, and then end each of its connections.
	minSessionTime = 5 * time.Second

	// releaseTimeout is the time limit of Close for releasing the lease.
	releaseTimeout = time.Second
)

// Cluster is the connection of a hub to its cluster. It reconnects by itself. All methods can be
// called concurrently.
type Cluster struct {
	// Static after Join.
	config   Config
	lease    *lease.Lease
	key      []byte
	failures limitlog.Limiter // of connecting
	renewals limitlog.Limiter // of the lease
	events   limitlog.Limiter // what nats.go tells
	clock    clock
	cancel   context.CancelFunc // ends run
	wait     sync.WaitGroup     // for run and for the lease

	session atomic.Pointer[session] // nil: not connected

	// Guarded by mu.
	mu    sync.Mutex
	since time.Time // when the connection was opened or lost
	cause error     // why there is no connection; nil: there is one
	fatal error     // why the hub can never be in its cluster again

	// Guarded by receiving, which is held while handle runs.
	receiving sync.Mutex
	handle    func(frame []byte) // nil: nobody receives
}

// Join connects a hub to its cluster and takes a number for it. It tries until ctx ends: NATS need
// not be there yet, and what is wrong with it can be corrected meanwhile. It logs each reason at
// intervals that grow from 10 s to 10 min. The errors for which it does not try again are those of
// Config.Validate, ErrOtherKey and ErrUsedUp. ctx does not limit the life of the Cluster, which
// the caller must Close.
func Join(ctx context.Context, config Config) (*Cluster, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &Cluster{config: config.withDefaults(), since: time.Now(), cause: ErrNotConnected}
	c.lease = lease.New(lease.Config{
		Counter: kvStore{c, func(b *buckets) jetstream.KeyValue { return b.nodes }},
		Leases:  kvStore{c, func(b *buckets) jetstream.KeyValue { return b.leases }},
		Info:    lease.Info{Name: c.config.HubName, Address: c.config.Address, Version: c.config.Version, Started: time.Now().Round(0)},
		OnRenew: c.handleRenewal,
	})
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	s, err := c.open(ctx, nil, c.lease.Take)
	if err != nil {
		cancel()
		return nil, err
	}
	c.config.Logger.Info("joined the cluster", "cluster", c.config.Name, "node", uint32(c.lease.Node()), "server", s.server)
	c.wait.Go(func() { c.run(runCtx, s) })    // both end with runCtx, and Close waits for them;
	c.wait.Go(func() { c.holdLease(runCtx) }) // the second also when another hub has the number
	return c, nil
}

// Node returns the number of this start of the hub.
func (c *Cluster) Node() cluster.Node { return c.lease.Node() }

// Valid reports whether the number belongs to this hub for certain: see lease.Lease.Valid.
func (c *Cluster) Valid() bool { return c.lease.Valid() }

// Key returns the secret by which hubs know frames of each other: Config.Key or the shared key.
// The caller must not change it.
func (c *Cluster) Key() []byte { return c.key }

// Close releases the lease and closes the connection. Afterwards, no frames are handled. It takes
// a few seconds at most. It must not be called by the function that handles frames.
func (c *Cluster) Close() {
	c.setHandle(nil)
	c.cancel()
	c.wait.Wait()
	s := c.session.Load()
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	if err := c.lease.Release(ctx); err != nil {
		c.config.Logger.Debug("the lease of the hub was not released and expires", "error", err)
	}
	c.session.Store(nil)
	s.close()
}

// open opens a session, and tries again until ctx ends or the error is permanent. servers are
// those that earlier connections were told. join is called once the buckets are open; nil: the
// hub has its number already.
func (c *Cluster) open(ctx context.Context, servers []string, join func(context.Context) error) (*session, error) {
	var last error
	for wait := minRetryPause; ; wait = min(2*wait, maxRetryPause) {
		s, err := c.tryOpen(ctx, servers, join)
		if err == nil {
			c.failures.Reset()
			c.setConnected()
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("join the cluster: %w; last error: %w", ctx.Err(), cmp.Or(last, err))
		}
		if join != nil && isPermanent(err) {
			return nil, err
		}
		last = err
		c.setCause(err)
		c.logWarn(&c.failures, "not connected to the cluster, trying again", err)
		c.config.OnRetry(err)
		pause(ctx, wait) // the next attempt sees that ctx has ended
	}
}

// sessionPauses are the pauses before sessions that follow others.
type sessionPauses struct{ short int } // how many sessions in a row were short

// next returns the pause after a session that was open for age.
func (p *sessionPauses) next(age time.Duration) time.Duration {
	if age >= minSessionTime {
		p.short = 0
	}
	p.short++
	if p.short == 1 {
		return 0
	}
	return min(minRetryPause<<min(p.short-2, 10), maxRetryPause)
}

// pause waits for half of d, and up to all of it at random. It returns false if ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// isPermanent reports whether Join does not try again after an error.
func isPermanent(err error) bool {
	return errors.Is(err, ErrOtherKey) || errors.Is(err, ErrUsedUp) || errors.Is(err, lease.ErrCounter)
}

// tryOpen makes one attempt to open a session. After Join it does not wait for JetStream, which
// needs seconds to go on after a server has died: frames must flow at once. The next renewal of
// the lease opens the buckets.
func (c *Cluster) tryOpen(ctx context.Context, servers []string, join func(context.Context) error) (_ *session, err error) {
	s, err := c.connect(ctx, servers)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = s.permissionError(err)
			c.session.Store(nil)
			s.close()
		}
	}()
	if join != nil {
		if err := c.prepareBuckets(ctx, s); err != nil {
			return nil, err
		}
		c.session.Store(s) // join uses it
		if err := join(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.openFrames(ctx, s); err != nil {
		return nil, err
	}
	s.setOpened()
	c.session.Store(s)
	return s, nil
}

// prepareBuckets opens the buckets of a session and agrees with the other hubs on the key of the
// cluster.
func (c *Cluster) prepareBuckets(ctx context.Context, s *session) error {
	b, err := c.openBuckets(ctx, s)
	if err != nil {
		return err
	}
	own := c.config.Key
	if len(c.key) > 0 {
		own = c.key
	}
	key, err := agreeOnKey(ctx, c.config.Name, b.nodes, own, len(c.config.Key) == 0)
	if err != nil {
		return err
	}
	if len(c.key) == 0 {
		c.key = slices.Clone(key) // within Join
	}
	s.buckets.Store(b)
	return nil
}

// run keeps the hub connected until ctx ends.
func (c *Cluster) run(ctx context.Context, s *session) {
	ticker := time.NewTicker(clockInterval)
	defer ticker.Stop()
	var pauses sessionPauses
	c.checkClock(ctx, s)
	for {
		select {
		case <-ticker.C:
			c.checkClock(ctx, s)
		case <-s.closed:
			if s = c.reopen(ctx, s, s.nc.LastError(), &pauses); s == nil {
				return
			}
			c.lease.Renew()
		case <-s.frames.Done():
			if s = c.reopen(ctx, s, knownError(s.frames.Err()), &pauses); s == nil {
				return
			}
			c.lease.Renew()
		case <-ctx.Done():
			return
		}
	}
}

// reopen opens a session after one of the connections of another has ended. It returns nil when ctx
// ends.
func (c *Cluster) reopen(ctx context.Context, old *session, cause error, pauses *sessionPauses) *session {
	if cause == nil {
		cause = errors.New("the server has closed the connection")
	}
	c.session.Store(nil)
	servers := c.withUser(old.nc.DiscoveredServers())
	old.close()
	c.setLost(cause)
	c.config.Logger.Warn("connection to NATS lost, connecting again", "error", cause, "server", old.server)
	if !pause(ctx, pauses.next(old.age())) {
		return nil
	}
	s, err := c.open(ctx, servers, nil)
	if err != nil {
		return nil
	}
	c.config.Logger.Info("connected to NATS again", "server", s.server)
	return s
}
