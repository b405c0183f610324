package main

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// equalTimeout is how long after a fault all hubs must have the same directory.
const equalTimeout = 5 * time.Second

// breaker breaks the cluster.
type breaker struct {
	arena     *arena
	ledger    *ledger
	observers *observers
	rng       *rand.Rand
	logf      func(format string, args ...any)

	history  []faultTime
	maxGhost time.Duration // longest time in which clients of a dead hub were listed
	maxEqual time.Duration // longest time after a fault until the lists of the hubs were equal
}

// faultTime is when a fault began.
type faultTime struct {
	name string
	at   time.Time
}

// choose chooses faults of those kinds, none of which kills or stops the same server as another
// one, and returns them as one.
func (b *breaker) choose(kinds []int) (*fault, error) {
	all := new(fault)
	var parts []*fault
	for _, kind := range kinds {
		f, err := b.chooseBeside(kind, parts)
		if err != nil {
			return nil, err
		}
		if len(parts) > 0 {
			all.name += " and "
		}
		parts = append(parts, f)
		all.name += f.name
		all.direct |= f.direct
		all.crossing |= f.crossing
		all.killed |= f.killed
		all.silent |= f.silent
		b.history = append(b.history, faultTime{faultKinds[kind].name, time.Now()})
	}
	each := func(f func(*fault) error) error {
		var errs []error
		for _, p := range parts {
			errs = append(errs, f(p))
		}
		return errors.Join(errs...)
	}
	all.begin = func() error { return each(func(f *fault) error { return f.begin() }) }
	all.end = func() error { return each(func(f *fault) error { return f.end() }) }
	return all, nil
}

// chooseBeside chooses a fault of that kind that kills or stops no server that others do.
func (b *breaker) chooseBeside(kind int, others []*fault) (*fault, error) {
	for range 10 {
		f, err := faultKinds[kind].choose(b.arena, b.rng)
		if err != nil || f.server == nil || !slices.ContainsFunc(others, func(o *fault) bool { return o.server == f.server }) {
			return f, err
		}
	}
	return killNATSServer(b.arena, b.freeNATS(others), ""), nil // kind has only one server: the leader
}

// freeNATS returns the number of a NATS server that no fault kills or stops.
func (b *breaker) freeNATS(others []*fault) int {
	return slices.IndexFunc(b.arena.nats[:], func(s *server) bool {
		return !slices.ContainsFunc(others, func(o *fault) bool { return o.server == s })
	})
}

// breakOnce runs faults of those kinds at the same time, and checks the lists meanwhile and
// afterwards.
func (b *breaker) breakOnce(ctx context.Context, kinds []int) error {
	f, err := b.choose(kinds)
	if err != nil {
		return err
	}
	d := minFault + randomTime(b.rng, maxFault-minFault)
	b.logf("%d: %s for %v", len(b.history), f.name, d.Round(100*time.Millisecond))
	w := b.ledger.openWindow(f.direct, f.crossing)
	if err := f.begin(); err != nil {
		return err
	}
	checkCtx, cancel := context.WithCancel(ctx)
	checked := b.checkAbsent(checkCtx, f, d)
	if !sleep(ctx, d) {
		cancel()
		<-checked
		return ctx.Err()
	}
	if f.killed == 0 { // it is heard again
		cancel()
	}
	defer cancel()
	err = f.end()
	if err == nil {
		err = b.awaitHealed(ctx, f)
	}
	<-checked
	b.ledger.closeWindow(w)
	if err == nil {
		err = b.arena.checkRunning()
	}
	return err
}

// awaitHealed waits until the hubs agree on their clients.
func (b *breaker) awaitHealed(ctx context.Context, f *fault) error {
	for i := range b.arena.hubs {
		if f.killed&(1<<i) != 0 {
			if err := b.arena.awaitHub(ctx, i); err != nil {
				return err
			}
		}
	}
	took, err := b.observers.awaitEqual(ctx, equalTimeout)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		b.ledger.fail("%s: %v", f.name, err)
		took, err = b.observers.awaitEqual(ctx, time.Minute)
		took += equalTimeout
	}
	b.maxEqual = max(b.maxEqual, took)
	return err
}

// checkAbsent checks that the other hubs do not list clients of a hub that has died or is not
// heard, unless the fault is too short for it. The channel is closed when it is done.
func (b *breaker) checkAbsent(ctx context.Context, f *fault, d time.Duration) <-chan struct{} {
	done := make(chan struct{})
	ids := make(map[uint64]bool)
	for i := range b.arena.hubs {
		switch {
		case f.killed&(1<<i) != 0:
			maps.Copy(ids, b.ledger.killSessions(i))
		case f.silent&(1<<i) != 0 && d > deadline+listTimeout/2:
			maps.Copy(ids, b.ledger.idsAt(i))
		}
	}
	if len(ids) == 0 {
		close(done)
		return done
	}
	results := make(chan time.Duration, hubCount)
	observed := 0
	for i, o := range b.observers {
		if (f.killed|f.silent)&(1<<i) != 0 {
			continue
		}
		observed++
		go func() { // ends with the check, or with ctx
			took, err := o.awaitAbsent(ctx, ids, func(id uint64) bool { return b.ledger.isGone(id, f.silent) })
			if err != nil && ctx.Err() == nil {
				b.ledger.fail("%s: %v", f.name, err)
			}
			results <- took
		}()
	}
	go func() { // ends after those that check
		defer close(done)
		for range observed {
			b.maxGhost = max(b.maxGhost, <-results)
		}
	}()
	return done
}

// lastFault returns the kind of the last fault before t.
func (b *breaker) lastFault(t time.Time) (name string) {
	for _, f := range b.history {
		if f.at.Before(t) {
			name = f.name
		}
	}
	return name
}
