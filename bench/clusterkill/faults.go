package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	minFault = time.Second
	maxFault = 8 * time.Second

	// equalTimeout is how long after a fault all hubs must have the same directory.
	equalTimeout = 5 * time.Second
)

// fault is something that happens to the cluster, and its end.
type fault struct {
	name             string
	direct, crossing hubs
	begin, end       func() error

	killed hubs // they lose their sessions
	silent hubs // they are not heard by the others
}

// faultKinds are all faults, each with the function that chooses one of its kind.
var faultKinds = []struct {
	name   string
	choose func(*arena, *rand.Rand) (*fault, error)
}{
	{"kill hub", killHub},
	{"stop hub", stopHub},
	{"kill NATS server", killNATS},
	{"kill JetStream leader", killLeader},
	{"stop NATS server", stopNATS},
	{"cut hub from NATS", cutHub},
	{"cut hub from one NATS server", cutHubFromOne},
	{"cut two NATS servers", cutNATS},
	{"cut one NATS server from the others", isolateNATS},
	{"cut hub from clients", cutClients},
}

func killHub(a *arena, rng *rand.Rand) (*fault, error) {
	i := rng.IntN(hubCount)
	s := a.hubs[i]
	return &fault{
		name: "kill " + s.name, direct: 1 << i, crossing: 1 << i, killed: 1 << i,
		begin: func() error { s.kill(); return nil },
		end:   s.start,
	}, nil
}

func stopHub(a *arena, rng *rand.Rand) (*fault, error) {
	i := rng.IntN(hubCount)
	s := a.hubs[i]
	return &fault{name: "stop " + s.name, direct: 1 << i, crossing: 1 << i, silent: 1 << i, begin: s.stop, end: s.resume}, nil
}

func killNATS(a *arena, rng *rand.Rand) (*fault, error) {
	return killNATSServer(a, rng.IntN(natsCount), ""), nil
}

// killLeader kills the NATS server that leads the stream of the leases.
func killLeader(a *arena, _ *rand.Rand) (*fault, error) {
	i, err := a.leaseLeader()
	if err != nil {
		return nil, err
	}
	return killNATSServer(a, i, ", which leads the leases"), nil
}

func killNATSServer(a *arena, i int, what string) *fault {
	s := a.nats[i]
	return &fault{
		name: "kill " + s.name + what, crossing: allHubs,
		begin: func() error { s.kill(); return nil },
		end:   s.start,
	}
}

func stopNATS(a *arena, rng *rand.Rand) (*fault, error) {
	s := a.nats[rng.IntN(natsCount)]
	return &fault{name: "stop " + s.name, crossing: allHubs, begin: s.stop, end: s.resume}, nil
}

func cutHub(a *arena, rng *rand.Rand) (*fault, error) {
	i := rng.IntN(hubCount)
	f := cutFault("cut "+a.hubs[i].name+" from NATS", a.hubs[i], a.nats[:])
	f.crossing, f.silent = 1<<i, 1<<i
	return f, nil
}

func cutHubFromOne(a *arena, rng *rand.Rand) (*fault, error) {
	i, n := rng.IntN(hubCount), rng.IntN(natsCount)
	f := cutFault("cut "+a.hubs[i].name+" from "+a.nats[n].name, a.hubs[i], a.nats[n:n+1])
	f.crossing = 1 << i
	return f, nil
}

func cutNATS(a *arena, rng *rand.Rand) (*fault, error) {
	pair := rng.Perm(natsCount)[:2]
	one, other := a.nats[pair[0]], a.nats[pair[1]]
	return cutFault("cut "+one.name+" from "+other.name, one, []*server{other}), nil
}

func isolateNATS(a *arena, rng *rand.Rand) (*fault, error) {
	i := rng.IntN(natsCount)
	return cutFault("cut "+a.nats[i].name+" from the other NATS servers", a.nats[i], []*server{a.nats[(i+1)%natsCount], a.nats[(i+2)%natsCount]}), nil
}

func cutClients(a *arena, rng *rand.Rand) (*fault, error) {
	i := rng.IntN(hubCount)
	s := a.hubs[i]
	return &fault{
		name: "cut " + s.name + " from its clients", direct: 1 << i,
		begin: func() error { return cut(s.place, a.clients) },
		end:   func() error { return join(s.place, a.clients) },
	}, nil
}

// cutFault is a fault that cuts a server from others, which all hubs feel.
func cutFault(name string, s *server, others []*server) *fault {
	each := func(f func(a, b *place) error) func() error {
		return func() (err error) {
			for _, other := range others {
				err = errors.Join(err, f(s.place, other.place))
			}
			return err
		}
	}
	return &fault{name: name, crossing: allHubs, begin: each(cut), end: each(join)}
}

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

// breakOnce runs one fault of that kind, and checks the lists meanwhile and afterwards.
func (b *breaker) breakOnce(ctx context.Context, kind int) error {
	f, err := faultKinds[kind].choose(b.arena, b.rng)
	if err != nil {
		return err
	}
	d := minFault + randomTime(b.rng, maxFault-minFault)
	b.logf("%d: %s for %v", len(b.history)+1, f.name, d.Round(100*time.Millisecond))
	b.history = append(b.history, faultTime{faultKinds[kind].name, time.Now()})
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
			ids = b.ledger.killSessions(i)
		case f.silent&(1<<i) != 0 && d > deadline+listTimeout/2:
			ids = b.ledger.idsAt(func(hub int) bool { return hub == i })
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
			took, err := o.awaitAbsent(ctx, ids)
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

// nextKinds returns the kinds of n faults in random order: each kind as often as possible.
func nextKinds(rng *rand.Rand, n int) (kinds []int) {
	for len(kinds) < n {
		kinds = append(kinds, rng.Perm(len(faultKinds))...)
	}
	return kinds[:n]
}

// randomTime returns a time below limit.
func randomTime(rng *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(limit)))
}
