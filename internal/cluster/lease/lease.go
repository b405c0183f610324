// Package lease takes the number of a hub in its cluster and holds the lease of the number.
//
// A counter gives each start of a hub a number that no other start has ever had. The lease says
// that the hub lives: it expires in the store 15 s after its last renewal, and the hub knows when
// that can be. The package does not know what a store is made of, and what a hub does without a
// lease. It is not on the path of a message.
package lease

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/cluster"
)

const (
	// Duration is how long a lease is good after its renewal. The store of leases must let a key
	// expire so long after its last change, and not before.
	//
	// It is longer than the store can need to go on after the death of one of its servers: JetStream
	// elects a new leader within 4 to 9 s, and a renewal that fails meanwhile takes up to 3 s. With a
	// shorter lease, all hubs of a cluster would reject new clients at once. A longer one costs
	// little: a number is never given twice, with or without a lease, and hubs know from heartbeats
	// which of them live.
	Duration = 15 * time.Second

	// renewInterval is the time between two renewals.
	renewInterval = time.Second

	// renewTimeout is the time limit of one renewal.
	renewTimeout = 2 * time.Second
)

// ErrTaken means that another hub has a lease of the same number, which only happens when the
// store has lost its newest data. This hub must end: its start has no number of its own.
var ErrTaken = errors.New("another hub has the same number, because the key-value store has lost data")

// Info describes a hub. It is the value of its lease, as JSON.
type Info struct {
	Name    string    `json:"name"`
	Address string    `json:"address,omitempty"` // at which clients connect
	Version string    `json:"version,omitempty"`
	Started time.Time `json:"started"`
	Start   string    `json:"start"` // random, set by New: tells two starts of a hub apart
}

// Config is the configuration of a Lease.
type Config struct {
	Counter Store // its keys are kept for ever
	Leases  Store // its keys expire after Duration
	Info    Info

	// OnRenew is called after each renewal of Run, with nil or the reason why it has failed. nil:
	// nothing is called.
	OnRenew func(error)
}

// Lease is the number of a hub, and the lease of the number. Take must succeed before Run is
// called, and Run must return before Release is called. All other methods can be called
// concurrently with each other and with these.
//
// A lease is good from before the request that last succeeded, by the clock of this machine, for
// Duration. Both its monotonic clock and its wall clock must say so: the monotonic clock of Linux
// stands still while the machine is suspended, the wall clock does not. A wall clock that jumps
// forward makes the lease run out, until the next renewal. A virtual machine whose clocks are
// both stopped does not know that its lease has run out until it has synchronized its clock.
type Lease struct {
	// Static after construction.
	config Config
	value  []byte
	nudge  chan struct{}

	// Owned by Take, then by Run, then by Release.
	taken    bool   // whether node is the number of this hub
	revision uint64 // of the key; 0: not known

	// Guarded by mu.
	mu      sync.Mutex
	node    cluster.Node
	until   time.Time
	valid   bool          // what Changed has told
	changed chan struct{} // closed when valid changes
	expiry  *time.Timer   // calls updateValid when the lease runs out; nil: it never was good
}

// New returns a Lease that has no number yet.
func New(config Config) *Lease {
	config.Info.Start = rand.Text()
	value, err := json.Marshal(config.Info)
	if err != nil { // only for a year above 9999
		panic(err)
	}
	return &Lease{config: config, value: value, nudge: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Take takes a number and its lease. After an error that is not ErrUsedUp or ErrCounter it can
// be called again, and goes on with the number that it has taken.
func (l *Lease) Take(ctx context.Context) error {
	for {
		if !l.taken {
			n, err := takeNumber(ctx, l.config.Counter)
			if err != nil {
				return fmt.Errorf("take a number: %w", err)
			}
			l.setNode(n)
		}
		err := l.renew(ctx)
		if !errors.Is(err, ErrTaken) {
			return err
		}
		l.taken = false // the counter was set back, to a number that a hub still has
	}
}

func (l *Lease) setNode(n cluster.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken, l.node = true, n
}

// Node returns the number of the hub. It is 0 before Take has succeeded.
func (l *Lease) Node() cluster.Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.node
}

// Run renews the lease until ctx ends. A lease that has run out becomes good again when a renewal
// succeeds. The error is ErrTaken, or nil when ctx has ended.
func (l *Lease) Run(ctx context.Context) error {
	defer l.stopExpiry()
	ticker := time.NewTicker(renewInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-l.nudge:
		case <-ctx.Done():
			return nil
		}
		err := l.renewOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if l.config.OnRenew != nil {
			l.config.OnRenew(err)
		}
		if errors.Is(err, ErrTaken) {
			l.setUntil(time.Time{})
			return err
		}
	}
}

// Renew makes Run renew the lease at once, because the store can be reached again.
func (l *Lease) Renew() {
	select {
	case l.nudge <- struct{}{}:
	default:
	}
}

func (l *Lease) renewOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	return l.renew(ctx)
}

// renew renews the lease, or takes it again after it has run out.
func (l *Lease) renew(ctx context.Context) error {
	if l.revision != 0 {
		err := l.update(ctx, l.revision)
		if !errors.Is(err, ErrConflict) {
			return err
		}
		l.revision = 0
	}
	sent := time.Now()
	revision, err := l.config.Leases.Create(ctx, l.key(), l.value)
	if err == nil {
		l.renewed(revision, sent)
		return nil
	}
	if !errors.Is(err, ErrExists) {
		return fmt.Errorf("create the lease: %w", err)
	}
	value, revision, err := l.config.Leases.Get(ctx, l.key())
	switch {
	case err != nil:
		return fmt.Errorf("read the lease: %w", err)
	case !bytes.Equal(value, l.value):
		return ErrTaken
	}
	return l.update(ctx, revision) // the answer to an earlier renewal was lost
}

// update renews a lease that has this revision in the store.
func (l *Lease) update(ctx context.Context, revision uint64) error {
	sent := time.Now()
	revision, err := l.config.Leases.Update(ctx, l.key(), l.value, revision)
	if err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	l.renewed(revision, sent)
	return nil
}

// renewed records a renewal whose request was sent at sent.
func (l *Lease) renewed(revision uint64, sent time.Time) {
	l.revision = revision
	l.setUntil(sent.Add(Duration))
}

func (l *Lease) key() string { return Key(l.Node()) }

// Key returns the key of the lease of a hub.
func Key(n cluster.Node) string { return "lease." + string(formatNode(n)) }

// Release ends the lease, which otherwise stays in the store until it expires.
func (l *Lease) Release(ctx context.Context) error {
	l.setUntil(time.Time{})
	l.stopExpiry()
	if l.revision == 0 {
		return nil // the lease expires
	}
	if err := l.config.Leases.Delete(ctx, l.key(), l.revision); err != nil {
		return fmt.Errorf("release the lease: %w", err)
	}
	return nil
}
