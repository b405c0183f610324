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
	// maxRoundTrip is the longest that a round trip of the bystanders may take where
	// nothing that the test does may delay them. It is far above what a round trip
	// takes, for a machine that is busy elsewhere, and far below the stall timeout of
	// unhurried, for which a hub would make them wait that is not fair.
	maxRoundTrip = testTimeout / 3

	// burstSize is how many messages a round trip consists of, and pace the pause
	// between two: bystanders shall notice trouble, not make it.
	burstSize     = 4
	roundInterval = 5 * time.Millisecond
)

// bystanders are two clients that exchange numbered messages while somebody else
// misbehaves. They must notice nothing: each message arrives once, in order, and
// in time.
type bystanders struct {
	t              testing.TB
	sender, echoer *client.Client
	limit          time.Duration
	stop           chan struct{}
	end            func()
	rounds         atomic.Int64
	slowest        atomic.Int64 // ns
}

// startBystanders connects two bystanders, who work until the end of the test.
func (h *testHub) startBystanders(t testing.TB) *bystanders {
	t.Helper()
	return h.startBystandersWithin(t, maxRoundTrip)
}

// startBystandersWithin does so for a test that may delay them for a while, by design.
func (h *testHub) startBystandersWithin(t testing.TB, limit time.Duration) *bystanders {
	t.Helper()
	b := &bystanders{t: t, sender: h.dialClient(t), echoer: h.dialClient(t), limit: limit, stop: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	var sendErr, echoErr error
	wg.Go(func() { // ends with ending, or on its first error
		defer cancel()
		sendErr = b.sendLoop(ctx)
	})
	wg.Go(func() { // ends with ask, or on its first error
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

// sendLoop sends bursts of numbered messages and takes the answers.
func (b *bystanders) sendLoop(ctx context.Context) error {
	tick := time.NewTicker(roundInterval)
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

// echoLoop sends back what comes.
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
			return fmt.Errorf("answer %d: %w", n, err)
		}
	}
}

// body is message n: mostly small, at times one that goes the way of the large.
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

// waitRounds waits until the bystanders have done n more rounds.
func (b *bystanders) waitRounds(n int64) {
	b.t.Helper()
	to := b.rounds.Load() + n
	eventually(b.t, fmt.Sprintf("%d more rounds of the bystanders", n), func() bool { return b.rounds.Load() >= to })
}

// checkResults says what the bystanders noticed.
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
		b.t.Errorf("bystanders: slowest round trip %v, at most %v allowed", slowest, b.limit)
	}
	b.t.Logf("bystanders: %d rounds, slowest %v", b.rounds.Load(), slowest.Round(time.Millisecond))
}
