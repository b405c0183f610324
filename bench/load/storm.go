package main

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// stormConfig is how many clients come at once.
type stormConfig struct {
	clients, parallel int
}

func (c *stormConfig) addFlags(flags *flag.FlagSet) {
	flags.IntVar(&c.clients, "clients", 15000, "clients that come, in all")
	flags.IntVar(&c.parallel, "parallel", 64, "clients that are there at the same time")
}

// stormResult is the result.
type stormResult struct {
	Seconds float64 `json:"seconds"`
	Visits  int     `json:"visits"`
}

// runStorm lets clients connect, ask for their id and leave, as fast as they can. Any
// error is one too many.
func runStorm(ctx context.Context, t target, c stormConfig) (*stormResult, error) {
	sys, err := findSystem(t.system)
	if err != nil {
		return nil, err
	}
	if sys.visit == nil || c.clients < 1 || c.parallel < 1 {
		return nil, fmt.Errorf("no storm of %d clients, %d at once, on %s", c.clients, c.parallel, t.system)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range c.parallel {
		// Ends when everybody has been there, or one visit has failed.
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
