package reclaim

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	stallTimeout = 4 * time.Second
	minRate      = 1000 // bytes per second
	maxBody      = 1 << 20
	budgetBytes  = 64 << 10
)

// fakeConn is a connection whose sample is given.
type fakeConn struct {
	state State

	mu           sync.Mutex
	sample       Sample
	acks         outbox.AckStats
	delaysSender bool
	rate         int64 // at which Written.Sent, BytesRead and AckStats.FreedBytes grow, in bytes per second
	start        time.Time

	requests, drops, evictions int
	at                         time.Time // of the last drop or eviction
}

func (c *fakeConn) ReclaimState() *State { return &c.state }

func (c *fakeConn) progress() int64 { return int64(float64(c.rate) * time.Since(c.start).Seconds()) }

func (c *fakeConn) Sample() Sample {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sample
	s.Written.Sent += c.progress()
	s.BytesRead += c.progress()
	return s
}

func (c *fakeConn) AckStats() outbox.AckStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := c.acks
	stats.FreedBytes += uint64(c.progress())
	return stats
}

func (c *fakeConn) DelaysSender() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.delaysSender
}

func (c *fakeConn) RequestAck() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
}

func (c *fakeConn) DropUnacked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acks.HeldBytes = 0
	c.drops++
	c.at = time.Now()
}

func (c *fakeConn) Evict() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sample.Closed = true
	c.evictions++
	c.at = time.Now()
}

// change applies a change to c.
func (c *fakeConn) change(apply func(*fakeConn)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	apply(c)
}

// count returns how often something was done to c.
func (c *fakeConn) count() (requests, drops, evictions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests, c.drops, c.evictions
}

// testReclaimer runs Run with a budget that is used up.
type testReclaimer struct {
	budget *body.Budget
	all    *body.Buffer // holds the whole budget
	end    func()       // ends Run and waits for it
	lists  atomic.Int64 // calls of AppendConns

	mu    sync.Mutex
	conns []*fakeConn
}

func startReclaimer(t *testing.T, conns ...*fakeConn) *testReclaimer {
	r := &testReclaimer{budget: body.NewBudget(budgetBytes, 0), conns: conns}
	buffer, err := r.budget.NewAccount(budgetBytes).Acquire(budgetBytes, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.all = buffer
	for _, c := range conns {
		c.start = time.Now()
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		Run(Config[*fakeConn]{Budget: r.budget, StallTimeout: stallTimeout, MinRate: minRate, MaxBody: maxBody,
			AppendConns: func(to []*fakeConn) []*fakeConn {
				r.lists.Add(1)
				r.mu.Lock()
				defer r.mu.Unlock()
				return append(to, r.conns...)
			},
		}, stop)
	}()
	r.end = sync.OnceFunc(func() { close(stop); <-done })
	t.Cleanup(r.end)
	return r
}

// wait has a client wait for memory in the budget until the function that it returns is called
// or the test ends.
func (r *testReclaimer) wait(t *testing.T) (end func()) {
	return r.waitOn(t, r.budget.NewAccount(budgetBytes), 100)
}

// waitForQuota has a client wait for memory in its own quota.
func (r *testReclaimer) waitForQuota(t *testing.T) (end func()) {
	a := r.budget.NewAccount(100)
	held := a.ForceAcquire(100)
	end = r.waitOn(t, a, 100)
	return func() { end(); held.Release() }
}

func (r *testReclaimer) waitOn(t *testing.T, a *body.Account, n int) (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		if buffer, err := a.Acquire(n, stop); err == nil {
			buffer.Release()
		}
	}()
	end = sync.OnceFunc(func() { close(stop); <-done })
	t.Cleanup(end)
	synctest.Wait()
	return end
}

// pass lets the time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestRun_NoWaiters_Sleeps checks that connections are looked at only while a client waits and
// for one stall timeout after that, and that nothing is kept with them afterwards.
func TestRun_NoWaiters_Sleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeConn{rate: minRate, acks: outbox.AckStats{HeldBytes: 1}}
		r := startReclaimer(t, c)
		pass(time.Hour)
		if n := r.lists.Load(); n > 0 {
			t.Errorf("connections were listed %d times before a client waited", n)
		}
		end := r.wait(t)
		pass(stallTimeout)
		end()
		pass(stallTimeout / 2)
		if r.lists.Load() == 0 {
			t.Error("connections were not listed")
		}
		pass(stallTimeout)
		lists := r.lists.Load()
		pass(time.Hour)
		if n := r.lists.Load() - lists; n > 0 || c.state.samples != nil {
			t.Errorf("connections were listed %d times afterwards, sampled: %t", n, c.state.samples != nil)
		}
	})
}

// TestRun_Stop_EndsWhileClientsWait checks that Run returns at once.
func TestRun_Stop_EndsWhileClientsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeConn{}
		r := startReclaimer(t, c)
		r.wait(t)
		pass(stallTimeout / 2)
		begin := time.Now()
		r.end()
		if took := time.Since(begin); took > 0 || c.state.samples != nil {
			t.Errorf("Run ended after %v, sampled: %t", took, c.state.samples != nil)
		}
	})
}

// TestRun_LaterConns_AreSampled has a connection appear while a client waits. It has a whole
// stall timeout as well.
func TestRun_LaterConns_AreSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startReclaimer(t, slowReader(0))
		r.wait(t)
		pass(stallTimeout / 2)
		late := slowReader(0)
		begin := time.Now()
		r.mu.Lock()
		r.conns = append(r.conns, late)
		r.mu.Unlock()
		pass(3 * stallTimeout)
		if took := late.at.Sub(begin); late.evictions != 1 || took < stallTimeout || took > 3*stallTimeout/2 {
			t.Errorf("evicted %d times, after %v", late.evictions, took)
		}
	})
}
