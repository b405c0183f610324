package main

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"time"
)

// moveConfig configures a move.
type moveConfig struct {
	clients, senders, fanout, messages, size int
	rate, seconds                            float64
	seed                                     uint64
}

func (c *moveConfig) addFlags(flags *flag.FlagSet) {
	flags.IntVar(&c.clients, "clients", 100, "clients to connect")
	flags.IntVar(&c.senders, "senders", 0, "clients that send; 0 is all")
	flags.IntVar(&c.fanout, "to", 0, "receivers of each message, chosen at random; 0 is all other clients")
	flags.IntVar(&c.messages, "messages", 100, "messages of each sender")
	flags.IntVar(&c.size, "size", 10240, "bytes of each body")
	flags.Float64Var(&c.rate, "rate", 0, "deliveries a second, in total; 0 is as many as possible")
	flags.Float64Var(&c.seconds, "seconds", 10, "how long to send, with -rate; instead of -messages")
	flags.Uint64Var(&c.seed, "seed", 1, "seed of the random receivers")
}

// plan returns the plan of the configuration.
func (c moveConfig) plan() (*plan, error) {
	if c.senders == 0 {
		c.senders = c.clients
	}
	if c.rate > 0 {
		fanout := c.fanout
		if fanout == 0 {
			fanout = c.clients - 1
		}
		c.messages = int(c.rate * c.seconds / float64(c.senders*fanout))
	}
	return newPlan(c.clients, c.senders, c.fanout, c.messages, c.size, c.seed)
}

// sendInterval returns the time between two messages of a sender: 0 without a rate.
func (c moveConfig) sendInterval(p *plan) time.Duration {
	if c.rate <= 0 {
		return 0
	}
	return time.Duration(float64(p.senders*p.fanout) / c.rate * float64(time.Second))
}

// runMove runs a move on the target's system.
func runMove(ctx context.Context, t target, c moveConfig) (*moveResult, error) {
	sys, err := findSystem(t.system)
	if err != nil {
		return nil, err
	}
	return runMoveOn(ctx, sys, t, c)
}

// runMoveOn connects the clients, lets them send, and waits until everything has arrived or
// until deliveries stall.
func runMoveOn(ctx context.Context, sys system, t target, c moveConfig) (*moveResult, error) {
	p, err := c.plan()
	if err != nil {
		return nil, err
	}
	tr := newTransfer(sys, p, c.sendInterval(p), t.libraryDefaults)
	defer tr.close()
	if err := tr.connect(t); err != nil {
		return nil, err
	}
	fmt.Println("moving")
	begin := time.Now()
	var wg sync.WaitGroup
	for s := range tr.plan.senders {
		wg.Go(func() { tr.send(s, begin) }) // ends when all is sent, or when tr is closed
	}
	lastProgress := tr.awaitCompletion(ctx)
	tr.close()
	wg.Wait()
	return tr.result(begin, lastProgress), nil
}
