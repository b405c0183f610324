package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/stats"
)

// warmUpRounds and warmUpFraction limit the warm-up: warmUpRounds round trips, or one part in
// warmUpFraction of the duration if the round trips take long. After the warm-up, connections,
// buffers and the scheduler are in a steady state.
const (
	warmUpRounds   = 1000
	warmUpFraction = 10 // the divisor of the duration
)

// latencyConfig configures a measurement of round trips.
type latencyConfig struct {
	size, rounds  int
	rate, seconds float64
}

func (c *latencyConfig) addFlags(flags *flag.FlagSet) {
	flags.IntVar(&c.size, "size", 128, "bytes of each body")
	flags.IntVar(&c.rounds, "rounds", 20000, "round trips to measure")
	flags.Float64Var(&c.rate, "rate", 0, "round trips a second; 0 is one after the other")
	flags.Float64Var(&c.seconds, "seconds", 60, "maximum duration")
}

// latencyResult is the result: the time from a send to the delivery of the reply, which is two
// messages.
type latencyResult struct {
	Rounds int64   `json:"rounds"`
	P50    float64 `json:"p50_seconds"`
	P90    float64 `json:"p90_seconds"`
	P99    float64 `json:"p99_seconds"`
	Max    float64 `json:"max_seconds"`
}

// pingPong measures round trips between two clients: the first client sends, the second client
// sends the body back. Both send inside their onBody callback, as the fastest program with
// that library would, therefore no goroutine is woken except by the library itself.
type pingPong struct {
	// Static before the first send.
	target    target
	rounds    int64         // to measure
	interval  time.Duration // between two round trips; 0: each follows the one before
	body      []byte
	conns     [2]driverConn
	warmUpEnd time.Time // latest end of the warm-up
	deadline  time.Time // latest end of the measurement

	// Owned by the callbacks of the first client.
	round     int
	sentAt    time.Time // when the round trip was sent or due
	latencies *stats.Latency

	// sent is the number of round trips that were sent. run and the callbacks have no order but
	// that of the messages, therefore each callback loads it before it uses the fields above.
	sent atomic.Int64

	done chan error // capacity 1: nil after the last round, or the first error
	stop func(error)
}

// runLatency measures round trips between two clients.
func runLatency(ctx context.Context, t target, c latencyConfig) (*latencyResult, error) {
	sys, err := findSystem(t.system)
	if err != nil {
		return nil, err
	}
	if c.size < headerSize || c.rounds < 1 || c.rate < 0 {
		return nil, fmt.Errorf("%d rounds of %d bytes, want at least 1 of %d", c.rounds, c.size, headerSize)
	}
	t.direct, t.size = true, c.size
	p := &pingPong{
		target: t, rounds: int64(c.rounds), body: make([]byte, c.size), latencies: stats.NewLatency(), done: make(chan error, 1),
	}
	if c.rate > 0 {
		p.interval = time.Duration(float64(time.Second) / c.rate)
	}
	var once sync.Once
	p.stop = func(err error) { once.Do(func() { p.done <- err }) }
	if err := p.run(ctx, sys.newDriver(t, len(p.conns)), time.Duration(c.seconds*float64(time.Second))); err != nil {
		return nil, err
	}
	return &latencyResult{
		p.latencies.Count(), p.latencies.Quantile(.5).Seconds(), p.latencies.Quantile(.9).Seconds(),
		p.latencies.Quantile(.99).Seconds(), p.latencies.Max().Seconds(),
	}, nil
}

// run connects both clients and returns after the last round, when both connections are
// closed.
func (p *pingPong) run(ctx context.Context, d driver, maxDuration time.Duration) error {
	for i, onBody := range []func([]byte){p.pong, p.echo} {
		dc, err := d.connect(i, callbacks{onBody, p.stop})
		if err != nil {
			return err
		}
		defer dc.close()
		p.conns[i] = dc
	}
	p.target.awaitCluster()
	p.warmUpEnd, p.deadline = time.Now().Add(maxDuration/warmUpFraction), time.Now().Add(maxDuration)
	timer := time.NewTimer(maxDuration + stallTimeout)
	defer timer.Stop()
	p.ping(time.Now())
	select {
	case err := <-p.done:
		return err
	case <-timer.C:
		return fmt.Errorf("no reply for %v: a message was lost", stallTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

var toFirst, toSecond = []int32{0}, []int32{1} // as receivers

var errEarly = errors.New("a message arrived before the first was sent")

// ping sends the next body. The number in the body identifies the reply.
func (p *pingPong) ping(due time.Time) {
	putHeader(p.body, 0, p.round)
	p.sentAt = due
	p.sent.Add(1)
	if err := p.conns[0].send(toSecond, p.body, false); err != nil {
		p.stop(err)
	}
}

// echo is onBody of the second client. It sends the body back.
func (p *pingPong) echo(body []byte) {
	if p.sent.Load() == 0 {
		p.stop(errEarly)
		return
	}
	if err := p.conns[1].send(toFirst, body, false); err != nil {
		p.stop(err)
	}
}

// pong is onBody of the first client. It records the latency of the round trip.
func (p *pingPong) pong(body []byte) {
	now := time.Now()
	if p.sent.Load() == 0 {
		p.stop(errEarly)
		return
	}
	if !bytes.Equal(body, p.body) {
		p.stop(fmt.Errorf("round %d: the reply differs from what was sent", p.round))
		return
	}
	if p.round >= warmUpRounds || now.After(p.warmUpEnd) {
		p.latencies.Record(now.Sub(p.sentAt))
	}
	p.round++
	if p.latencies.Count() == p.rounds || now.After(p.deadline) {
		p.stop(nil)
		return
	}
	p.sendNext()
}

// sendNext sends the next body when it is due. The latency of a late body counts from when it
// was due, therefore it includes the delay by the round trips before it.
func (p *pingPong) sendNext() {
	due := p.sentAt.Add(p.interval)
	if wait := time.Until(due); p.interval == 0 || wait > 0 {
		time.Sleep(wait)
		due = time.Now()
	}
	p.ping(due)
}
