package main

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// stormConfig is the number of clients of a storm.
type stormConfig struct {
	clients, parallel int
}

func (c *stormConfig) addFlags(flags *flag.FlagSet) {
	flags.IntVar(&c.clients, "clients", 15000, "clients, in total")
	flags.IntVar(&c.parallel, "parallel", 64, "clients at the same time")
}

// stormResult is the result of a storm.
type stormResult struct {
	Seconds float64 `json:"seconds"`
	Visits  int     `json:"visits"`
}

// runStorm lets clients connect, learn their id and leave, as fast as possible. It returns the
// first error.
func runStorm(ctx context.Context, t target, c stormConfig) (*stormResult, error) {
	sys, err := findSystem(t.system)
	if err != nil {
		return nil, err
	}
	if sys.visit == nil || c.clients < 1 || c.parallel < 1 {
		return nil, fmt.Errorf("invalid storm: %d clients, %d at once, on %s", c.clients, c.parallel, t.system)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range c.parallel {
		// Ends when all visits are done, or after an error.
		wg.Go(func() {
			for i := next.Add(1); i <= int64(c.clients) && ctx.Err() == nil; i = next.Add(1) {
				if err := sys.visit(t.addr); err != nil {
					fail(fmt.Errorf("client %d: %w", i, err))
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return &stormResult{time.Since(begin).Seconds(), c.clients}, nil
}
