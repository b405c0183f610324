package hub_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

const (
	// maxRoundTrip is the longest allowed round trip of the bystanders in a test that must not
	// delay them. It is far above the usual duration, because the machine can be busy, and far
	// below the stall timeout of withLongTimeouts, for which a hub would delay them if it treated
	// them unfairly.
	maxRoundTrip = testTimeout / 3

	// burstSize is the number of messages in one round trip, and roundInterval the time between
	// two round trips. Bystanders detect load but do not cause any. In virtual time, which mostly
	// jumps ahead, they wait for longer.
	burstSize            = 4
	roundInterval        = 5 * time.Millisecond
	virtualRoundInterval = 50 * time.Millisecond
)

// bystanders are two clients that exchange numbered messages while other clients misbehave.
// Each message must arrive once, in order, and in time.
type bystanders struct {
	t              testing.TB
	sender, echoer *client.Client
	limit          time.Duration
	interval       time.Duration
	stop           chan struct{}
	end            func()
	rounds         atomic.Int64
	slowest        atomic.Int64 // ns
}

// startBystanders connects two bystanders, which exchange messages until the end of the test.
func (h *testHub) startBystanders(t testing.TB) *bystanders {
	t.Helper()
	return h.startBystandersWithin(t, maxRoundTrip)
}

// startBystandersWithin is startBystanders for a test that delays the bystanders by design. A
// round trip may take up to limit.
func (h *testHub) startBystandersWithin(t testing.TB, limit time.Duration) *bystanders {
	t.Helper()
	b := &bystanders{t: t, sender: h.dialClient(t), echoer: h.dialClient(t), limit: limit, interval: roundInterval, stop: make(chan struct{})}
	if h.memory != nil {
		b.interval = virtualRoundInterval
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	var sendErr, echoErr error
	wg.Go(func() { // ends with stop, or on its first error
		defer cancel()
		sendErr = b.sendLoop(ctx)
	})
	wg.Go(func() { // ends with sendLoop, or on its first error
		defer cancel()
		echoErr = b.echoLoop(ctx)
	})
	b.end = sync.OnceFunc(func() {
		close(b.stop)
		wg.Wait()
		b.checkResults(sendErr, echoErr)
	})
	t.Cleanup(b.end)
	return b
}

// sendLoop sends bursts of numbered messages and receives the echoes.
func (b *bystanders) sendLoop(ctx context.Context) error {
	tick := time.NewTicker(b.interval)
	defer tick.Stop()
	for round := 0; ; round++ {
		select {
		case <-b.stop:
			return nil
		case <-tick.C:
		}
		began := time.Now()
		if err := b.roundTrip(ctx, round); err != nil {
			return fmt.Errorf("round %d, after %v: %w", round, time.Since(began), err)
		}
		b.slowest.Store(max(b.slowest.Load(), int64(time.Since(began))))
		b.rounds.Add(1)
	}
}

func (b *bystanders) roundTrip(ctx context.Context, round int) error {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	for i := range burstSize {
		if err := b.sender.Send(ctx, []uint64{b.echoer.ID()}, b.body(round*burstSize+i)); err != nil {
			return err
		}
	}
	for i := range burstSize {
		if err := b.receive(ctx, b.sender, round*burstSize+i); err != nil {
			return err
		}
	}
	return nil
}

// echoLoop sends each message back.
func (b *bystanders) echoLoop(ctx context.Context) error {
	for n := 0; ; n++ {
		err := b.receive(ctx, b.echoer, n)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = b.echoer.Send(ctx, []uint64{b.sender.ID()}, b.body(n))
		}
		if err != nil {
			return fmt.Errorf("echo %d: %w", n, err)
		}
	}
}

// body returns the body of message n. Most are small; each fiftieth has 100,000 bytes, which
// the hub handles in a buffer of its own.
func (b *bystanders) body(n int) []byte {
	size := n * 37 % 3000
	if n%50 == 0 {
		size = 100_000
	}
	return numberedBody(b.sender.ID(), n, size)
}

func (b *bystanders) receive(ctx context.Context, c *client.Client, n int) error {
	m, err := c.Receive(ctx)
	if err != nil {
		return err
	}
	if want := b.body(n); !bytes.Equal(m.Body, want) {
		return fmt.Errorf("got %d bytes %.16x, want message %d, %d bytes %.16x", len(m.Body), m.Body, n, len(want), want)
	}
	m.Release()
	return nil
}

// waitRounds waits until the bystanders have completed n more round trips.
func (b *bystanders) waitRounds(n int64) {
	b.t.Helper()
	to := b.rounds.Load() + n
	eventually(b.t, fmt.Sprintf("%d more rounds of the bystanders", n), func() bool { return b.rounds.Load() >= to })
}

// checkResults fails the test for each error, without a single round trip, or if a round trip
// took longer than the limit.
func (b *bystanders) checkResults(errs ...error) {
	b.t.Helper()
	for _, err := range errs {
		if err != nil {
			b.t.Errorf("bystanders: %v", err)
		}
	}
	slowest := time.Duration(b.slowest.Load())
	if b.rounds.Load() == 0 {
		b.t.Error("bystanders: not one round trip")
	}
	if slowest > b.limit {
		b.t.Errorf("bystanders: slowest round trip %v, want at most %v", slowest, b.limit)
	}
	b.t.Logf("bystanders: %d rounds, slowest %v", b.rounds.Load(), slowest.Round(time.Millisecond))
}
