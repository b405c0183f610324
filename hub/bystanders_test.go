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
	// untroubled is the longest that a round trip of the bystanders may take where
	// nothing that the test does may delay them. It is far above what a round trip
	// takes, for a machine that is busy elsewhere, and far below the stall timeout of
	// unhurried, for which a hub would make them wait that is not fair.
	untroubled = patience / 3

	// burst is how many messages a round trip consists of, and pace the pause
	// between two: bystanders shall notice trouble, not make it.
	burst = 4
	pace  = 5 * time.Millisecond
)

// bystanders are two clients that exchange numbered messages while somebody else
// misbehaves. They must notice nothing: each message arrives once, in order, and
// in time.
type bystanders struct {
	t       testing.TB
	a, b    *client.Client
	most    time.Duration
	ending  chan struct{}
	end     func()
	rounds  atomic.Int64
	slowest atomic.Int64 // ns
}

// bystand connects two bystanders, who work until the end of the test.
func (s *testHub) bystand(t testing.TB) *bystanders {
	t.Helper()
	return s.bystandWithin(t, untroubled)
}

// bystandWithin does so for a test that may delay them for a while, by design.
func (s *testHub) bystandWithin(t testing.TB, most time.Duration) *bystanders {
	t.Helper()
	y := &bystanders{t: t, a: s.dial(t), b: s.dial(t), most: most, ending: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var working sync.WaitGroup
	var asked, answered error
	working.Go(func() { // ends with ending, or on its first error
		defer cancel()
		asked = y.ask(ctx)
	})
	working.Go(func() { // ends with ask, or on its first error
		defer cancel()
		answered = y.answer(ctx)
	})
	y.end = sync.OnceFunc(func() {
		close(y.ending)
		working.Wait()
		y.judge(asked, answered)
	})
	t.Cleanup(y.end)
	return y
}

// ask sends bursts of numbered messages and takes the answers.
func (y *bystanders) ask(ctx context.Context) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for round := 0; ; round++ {
		select {
		case <-y.ending:
			return nil
		case <-tick.C:
		}
		began := time.Now()
		if err := y.round(ctx, round); err != nil {
			return fmt.Errorf("round %d, after %v: %w", round, time.Since(began), err)
		}
		y.slowest.Store(max(y.slowest.Load(), int64(time.Since(began))))
		y.rounds.Add(1)
	}
}

func (y *bystanders) round(ctx context.Context, round int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for i := range burst {
		if err := y.a.Send(ctx, []uint64{y.b.ID()}, y.body(round*burst+i)); err != nil {
			return err
		}
	}
	for i := range burst {
		if err := y.receive(ctx, y.a, round*burst+i); err != nil {
			return err
		}
	}
	return nil
}

// answer sends back what comes.
func (y *bystanders) answer(ctx context.Context) error {
	for n := 0; ; n++ {
		err := y.receive(ctx, y.b, n)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = y.b.Send(ctx, []uint64{y.a.ID()}, y.body(n))
		}
		if err != nil {
			return fmt.Errorf("answer %d: %w", n, err)
		}
	}
}

// body is message n: mostly small, at times one that goes the way of the large.
func (y *bystanders) body(n int) []byte {
	size := n * 37 % 3000
	if n%50 == 0 {
		size = 100_000
	}
	return numbered(y.a.ID(), n, size)
}

func (y *bystanders) receive(ctx context.Context, c *client.Client, n int) error {
	m, err := c.Receive(ctx)
	if err != nil {
		return err
	}
	if want := y.body(n); !bytes.Equal(m.Body, want) {
		return fmt.Errorf("got %d bytes %.16x, want message %d, %d bytes %.16x", len(m.Body), m.Body, n, len(want), want)
	}
	m.Release()
	return nil
}

// pass waits until the bystanders have done n more rounds.
func (y *bystanders) pass(n int64) {
	y.t.Helper()
	to := y.rounds.Load() + n
	eventually(y.t, fmt.Sprintf("%d more rounds of the bystanders", n), func() bool { return y.rounds.Load() >= to })
}

// judge says what the bystanders noticed.
func (y *bystanders) judge(errs ...error) {
	y.t.Helper()
	for _, err := range errs {
		if err != nil {
			y.t.Errorf("bystanders: %v", err)
		}
	}
	slowest := time.Duration(y.slowest.Load())
	if y.rounds.Load() == 0 {
		y.t.Error("bystanders: not one round trip")
	}
	if slowest > y.most {
		y.t.Errorf("bystanders: slowest round trip %v, at most %v allowed", slowest, y.most)
	}
	y.t.Logf("bystanders: %d rounds, slowest %v", y.rounds.Load(), slowest.Round(time.Millisecond))
}
