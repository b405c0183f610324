package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/stats"
)

// What comes before the rounds that are measured: warmUp of them, or a share of the
// time where they take long. Connections, buffers and the scheduler have settled by
// then.
const (
	warmUp      = 1000
	warmUpShare = 10 // one part in so many
)

// latencyConfig is how to measure round trips.
type latencyConfig struct {
	size, rounds  int
	rate, seconds float64
}

func (c *latencyConfig) addFlags(flags *flag.FlagSet) {
	flags.IntVar(&c.size, "size", 128, "bytes of each body")
	flags.IntVar(&c.rounds, "rounds", 20000, "round trips to measure")
	flags.Float64Var(&c.rate, "rate", 0, "round trips a second; 0 is one after the other")
	flags.Float64Var(&c.seconds, "seconds", 60, "when to stop even if these are not done")
}

// measuredLatency is the result: the time from a send to the delivery of the
// answer, which is two messages.
type measuredLatency struct {
	Rounds int64   `json:"rounds"`
	P50    float64 `json:"p50_seconds"`
	P90    float64 `json:"p90_seconds"`
	P99    float64 `json:"p99_seconds"`
	Max    float64 `json:"max_seconds"`
}

// pingPong is two clients, of which the first sends and the second sends back. Each
// sends from where it is told of a body, as the fastest program with that library
// would: no goroutine is woken that the library does not wake itself.
type pingPong struct {
	// Static before the first send.
	rounds   int64         // to measure
	interval time.Duration // between two of them; 0: they follow one another
	body     []byte
	ends     [2]member
	warm     time.Time // when to measure anyway
	end      time.Time // when to stop anyway

	// Owned by the inbox of the first client.
	round int
	sent  time.Time // or when it should have been
	times *stats.Latency

	done chan error // capacity 1: the last round, or what went wrong first
	stop func(error)
}

// latency measures round trips between two clients.
func latency(ctx context.Context, t target, c latencyConfig) (*measuredLatency, error) {
	sys, err := find(t.system)
	if err != nil {
		return nil, err
	}
	if c.size < headerSize || c.rounds < 1 || c.rate < 0 {
		return nil, fmt.Errorf("%d rounds of %d bytes, want at least 1 of %d", c.rounds, c.size, headerSize)
	}
	t.direct, t.size = true, c.size
	p := &pingPong{
		rounds: int64(c.rounds), body: make([]byte, c.size), times: stats.NewLatency(), done: make(chan error, 1),
	}
	if c.rate > 0 {
		p.interval = time.Duration(float64(time.Second) / c.rate)
	}
	var once sync.Once
	p.stop = func(err error) { once.Do(func() { p.done <- err }) }
	if err := p.run(ctx, sys.network(t, len(p.ends)), time.Duration(c.seconds*float64(time.Second))); err != nil {
		return nil, err
	}
	return &measuredLatency{
		p.times.Count(), p.times.Quantile(.5).Seconds(), p.times.Quantile(.9).Seconds(),
		p.times.Quantile(.99).Seconds(), p.times.Max().Seconds(),
	}, nil
}

// run joins both, and returns after the last round. Both have left then.
func (p *pingPong) run(ctx context.Context, n network, most time.Duration) error {
	for i, deliver := range []func([]byte){p.pong, p.echo} {
		m, err := n.join(i, inbox{deliver, p.stop})
		if err != nil {
			return err
		}
		defer m.close()
		p.ends[i] = m
	}
	p.warm, p.end = time.Now().Add(most/warmUpShare), time.Now().Add(most)
	late := time.NewTimer(most + patience)
	defer late.Stop()
	p.ping(time.Now())
	select {
	case err := <-p.done:
		return err
	case <-late.C:
		return fmt.Errorf("no answer for %v: a message was lost", patience)
	case <-ctx.Done():
		return ctx.Err()
	}
}

var first, second = []int32{0}, []int32{1} // as receivers

// ping sends the next body. The number in it tells its answer from any other.
func (p *pingPong) ping(due time.Time) {
	putHeader(p.body, 0, p.round)
	p.sent = due
	if err := p.ends[0].send(second, p.body, false); err != nil {
		p.stop(err)
	}
}

// echo is what the second client does with a body.
func (p *pingPong) echo(body []byte) {
	if err := p.ends[1].send(first, body, false); err != nil {
		p.stop(err)
	}
}

// pong is what the first client does with the answer.
func (p *pingPong) pong(body []byte) {
	now := time.Now()
	if !bytes.Equal(body, p.body) {
		p.stop(fmt.Errorf("round %d: the answer is not what was sent", p.round))
		return
	}
	if p.round >= warmUp || now.After(p.warm) {
		p.times.Record(now.Sub(p.sent))
	}
	p.round++
	if p.times.Count() == p.rounds || now.After(p.end) {
		p.stop(nil)
		return
	}
	p.next()
}

// next sends the next body when it is due. One that is late counts from then on: a delay
// is not hidden by what was not sent meanwhile.
func (p *pingPong) next() {
	due := p.sent.Add(p.interval)
	if wait := time.Until(due); p.interval == 0 || wait > 0 {
		time.Sleep(wait)
		due = time.Now()
	}
	p.ping(due)
}
