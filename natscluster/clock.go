package natscluster

import (
	"context"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/cluster/lease"
)

const (
	// maxClockDifference is the difference of clocks above which the hub warns.
	maxClockDifference = time.Second

	// clockInterval is the time between two checks of the clock.
	clockInterval = time.Minute
)

// clock compares the clock of this machine with that of NATS, which notes the time of each write.
type clock struct {
	// Guarded by mu.
	mu   sync.Mutex
	last written
}

// written is a write to a bucket, with the times before and after it by the clock of this machine.
type written struct {
	bucket        string
	revision      uint64
	before, after time.Time
}

func (k *clock) record(w written) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = w
}

func (k *clock) lastWritten() written {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

// difference returns by how much the clock that says created is ahead, at least, if it notes
// times between before and after. It is negative if the clock is behind.
func difference(created, before, after time.Time) time.Duration {
	created, before, after = created.Round(0), before.Round(0), after.Round(0)
	switch {
	case created.Before(before):
		return created.Sub(before)
	case created.After(after):
		return created.Sub(after)
	}
	return 0
}

// checkClock warns if the clock of NATS differs from that of this machine. It does nothing if the
// lease is renewed meanwhile.
func (c *Cluster) checkClock(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	b, w := s.buckets.Load(), c.clock.lastWritten()
	if b == nil {
		return
	}
	entry, err := b.leases.Get(ctx, lease.Key(c.lease.Node()))
	if err != nil || entry.Bucket() != w.bucket || entry.Revision() != w.revision {
		return
	}
	if d := difference(entry.Created(), w.before, w.after); d.Abs() > maxClockDifference {
		c.config.Logger.Warn("the clocks of this machine and of NATS differ", "nats_is_ahead_by", d.Round(time.Millisecond), "server", s.server,
			"advice", "synchronize the clocks of all machines by NTP")
	}
}
