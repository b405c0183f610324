package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

const (
	timeFormat = "15:04:05.000"

	// The pause between two faults. A long one lets messages pass that no fault can touch.
	minPause = 500 * time.Millisecond
	maxPause = 8 * time.Second
)

// options are the command-line options.
type options struct {
	programs string
	kills    int
	duration time.Duration
	seed     uint64
	logs     string
}

// result is what the program prints.
type result struct {
	Seed    uint64         `json:"seed"`
	Seconds float64        `json:"seconds"`
	Faults  map[string]int `json:"faults"`
	verdict
	MaxGhostSeconds float64    `json:"max_ghost_seconds"` // that clients of a dead hub were listed
	MaxEqualSeconds float64    `json:"max_equal_seconds"` // after a fault, until all hubs listed the same
	LeaseGaps       []leaseGap `json:"lease_gaps"`
	Hubs            []hubState `json:"hubs"` // at the end, without clients
	Failed          int        `json:"failed"`
	Problems        []string   `json:"problems"`
}

// run runs the command line args.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var o options
	flags := flag.NewFlagSet("clusterkill", flag.ContinueOnError)
	flags.StringVar(&o.programs, "programs", "", "folder of start_server and nats-server")
	flags.IntVar(&o.kills, "kills", 100, "number of faults")
	flags.DurationVar(&o.duration, "time", time.Hour, "time after which no further fault begins")
	flags.Uint64Var(&o.seed, "seed", 0, "seed of the faults; 0: a random one")
	flags.StringVar(&o.logs, "logs", "", "existing folder for the logs of all servers, which are kept; empty: a temporary one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1 << 32)
	}
	if o.logs == "" {
		if o.logs, err = os.MkdirTemp("", "clusterkill-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.logs)) }()
	}
	r, err := breakCluster(ctx, &o)
	if r != nil {
		err = errors.Join(err, json.NewEncoder(out).Encode(r))
	}
	if err == nil && r.Failed > 0 {
		err = fmt.Errorf("%d things were wrong, with seed %d", r.Failed, o.seed)
	}
	return err
}

// logf writes a line with the time to standard error.
func logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format(timeFormat), fmt.Sprintf(format, args...))
}

// breakCluster starts everything, breaks it, and returns the result; nil: there is none.
func breakCluster(ctx context.Context, o *options) (*result, error) {
	start := time.Now()
	logf("seed %d", o.seed)
	a, err := newArena(ctx, o.programs, o.logs)
	defer a.close()
	if err != nil {
		return nil, errors.Join(err, a.describe(ctx))
	}
	logf("all hubs accept clients after %v", time.Since(start).Round(time.Millisecond))
	ledger := newLedger(memberCount, logf)
	obs := newObservers(a)
	b := &breaker{arena: a, ledger: ledger, observers: &obs, rng: rand.New(rand.NewPCG(o.seed, 0)), logf: logf}
	if err := b.breakUnderLoad(ctx, o); err != nil {
		return nil, errors.Join(err, a.describe(ctx))
	}
	r := &result{Seed: o.seed, Faults: make(map[string]int), LeaseGaps: []leaseGap{}, verdict: ledger.verify()}
	for _, f := range b.history {
		r.Faults[f.name]++
	}
	r.MaxGhostSeconds, r.MaxEqualSeconds = b.maxGhost.Seconds(), b.maxEqual.Seconds()
	if err := b.checkEnd(ctx, r); err != nil {
		return nil, errors.Join(err, a.describe(ctx))
	}
	r.Failed, r.Problems, r.Seconds = ledger.failed, ledger.problems, time.Since(start).Seconds()
	if r.Failed > 0 {
		return r, a.describe(ctx)
	}
	return r, nil
}

// breakUnderLoad runs all faults while clients send, and waits for the last reports.
func (b *breaker) breakUnderLoad(ctx context.Context, o *options) error {
	defer b.observers.close()
	loadCtx, stopLoad := context.WithCancel(ctx)
	sendCtx, stopSending := context.WithCancel(loadCtx)
	l := &load{arena: b.arena, ledger: b.ledger, seed: o.seed}
	l.start(loadCtx, sendCtx)
	err := b.breakAll(ctx, o)
	stopSending()
	if err == nil {
		l.finish(ctx)
		err = b.checkComplete(ctx)
	}
	stopLoad()
	l.senders.Wait()
	l.wait.Wait()
	return err
}

// breakAll runs all faults.
func (b *breaker) breakAll(ctx context.Context, o *options) error {
	begin := time.Now()
	if _, err := b.observers.awaitEqual(ctx, startTimeout); err != nil {
		return err
	}
	for _, kinds := range chooseRounds(b.rng, o.kills) {
		if !sleep(ctx, minPause+randomTime(b.rng, maxPause-minPause)*time.Duration(b.rng.IntN(2))) {
			return ctx.Err()
		}
		if time.Since(begin) > o.duration {
			break
		}
		if err := b.breakOnce(ctx, kinds); err != nil {
			return err
		}
	}
	sleep(ctx, maxPause)
	messages, deliveries := b.ledger.progress()
	b.logf("%d messages, %d deliveries", messages, deliveries)
	return ctx.Err()
}

// checkComplete checks that each hub lists exactly the clients that are connected.
func (b *breaker) checkComplete(ctx context.Context) error {
	want := b.ledger.connectedIDs()
	lists, err := b.observers.lists(ctx)
	if err != nil {
		return err
	}
	for i, list := range lists {
		found := 0
		for _, id := range list {
			if want[id] {
				found++
			}
		}
		if found != len(want) || len(list) != len(want)+hubCount {
			b.ledger.fail("at the end hub %d lists %d clients, among them %d of %d, and there are %d observers", i+1, len(list), found, len(want), hubCount)
		}
	}
	return nil
}

// The limits of what a hub has at the end, without clients.
const (
	maxEndGoroutines = 60
	maxEndHeapMiB    = 32
)

// checkEnd checks that nothing is left behind once all clients have gone.
func (b *breaker) checkEnd(ctx context.Context, r *result) error {
	if !sleep(ctx, resumeWindow+2*time.Second) {
		return ctx.Err()
	}
	for i, s := range b.arena.hubs {
		state, err := b.arena.readState(ctx, i)
		if err != nil {
			return err
		}
		if state.QueuedBytes != 0 || state.Goroutines > maxEndGoroutines || state.HeapMiB > maxEndHeapMiB {
			b.ledger.fail("without clients %s has %.0f bytes queued, %.0f goroutines and a heap of %.1f MiB", s.name, state.QueuedBytes, state.Goroutines, state.HeapMiB)
		}
		r.Hubs = append(r.Hubs, state)
		lines, err := suspiciousLines(s.logFile)
		if err != nil {
			return err
		}
		for _, line := range lines {
			b.ledger.fail("the log of %s: %s", s.name, line)
		}
		gaps, err := leaseGaps(s.name, s.logFile)
		if err != nil {
			return err
		}
		for _, g := range gaps {
			g.Fault = b.lastFault(g.from)
			r.LeaseGaps = append(r.LeaseGaps, g)
		}
	}
	return nil
}

// describe returns an error with the ends of the logs of all servers; nil if ctx has ended.
func (a *arena) describe(ctx context.Context) (err error) {
	if ctx.Err() != nil {
		return nil
	}
	for _, s := range a.servers() {
		err = errors.Join(err, fmt.Errorf("--- %s:\n%s", s.logFile, tail(s.logFile, 25)))
	}
	return err
}
