package reclaim

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// slowReader returns a connection whose client reads nothing of what is queued.
func slowReader(queued int) *fakeConn {
	return &fakeConn{sample: Sample{Written: outbox.Progress{Busy: true, Queued: queued}}}
}

// slowWriter returns a connection whose client sends nothing more of a frame.
func slowWriter() *fakeConn { return &fakeConn{sample: Sample{HeldSince: time.Now()}} }

// with returns c with a change.
func (c *fakeConn) with(apply func(*fakeConn)) *fakeConn {
	c.change(apply)
	return c
}

// TestEvict_SlowClients checks which clients are disconnected while others wait for memory, and
// that none is before a stall timeout has passed.
func TestEvict_SlowClients(t *testing.T) {
	inQuota, inBudget := (*testReclaimer).waitForQuota, (*testReclaimer).wait
	for name, test := range map[string]struct {
		conn func() *fakeConn
		wait func(*testReclaimer, *testing.T) func()
		want bool
	}{
		"reads nothing":                {func() *fakeConn { return slowReader(1) }, inBudget, true},
		"reads slowly":                 {func() *fakeConn { return slowReader(1).with(func(c *fakeConn) { c.rate = minRate - 1 }) }, inBudget, true},
		"reads fast enough":            {func() *fakeConn { return slowReader(1).with(func(c *fakeConn) { c.rate = minRate + 1 }) }, inBudget, false},
		"has nothing to read":          {func() *fakeConn { return &fakeConn{} }, inBudget, false},
		"holds what no sender needs":   {func() *fakeConn { return slowReader(1) }, inQuota, false},
		"holds what a sender needs":    {func() *fakeConn { return slowReader(1).with(func(c *fakeConn) { c.delaysSender = true }) }, inQuota, true},
		"sends nothing":                {slowWriter, inBudget, true},
		"sends slowly":                 {func() *fakeConn { return slowWriter().with(func(c *fakeConn) { c.rate = minRate - 1 }) }, inBudget, true},
		"sends fast enough":            {func() *fakeConn { return slowWriter().with(func(c *fakeConn) { c.rate = minRate + 1 }) }, inBudget, false},
		"sends, the hub does not read": {func() *fakeConn { return slowWriter().with(func(c *fakeConn) { c.sample.RateLimited = true }) }, inBudget, false},
		"sends, others wait for quota": {slowWriter, inQuota, false},
		"is closed already":            {func() *fakeConn { return slowReader(1).with(func(c *fakeConn) { c.sample.Closed = true }) }, inBudget, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := test.conn()
				r := startReclaimer(t, c)
				pass(time.Millisecond)
				begin := time.Now()
				test.wait(r, t)
				pass(3 * stallTimeout)
				_, _, evictions := c.count()
				if (evictions == 1) != test.want || evictions > 1 {
					t.Errorf("evicted %d times, want %t", evictions, test.want)
				} else if took := c.at.Sub(begin); evictions == 1 && (took < stallTimeout || took > stallTimeout+stallTimeout/samplesPerTimeout) {
					t.Errorf("evicted after %v", took)
				}
			})
		})
	}
}

// TestEvict_Progress_StartsTimeAgain has a client that holds memory read everything, or send the
// rest of its frame, shortly before each stall timeout.
func TestEvict_Progress_StartsTimeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader, writer := slowReader(1), slowWriter()
		r := startReclaimer(t, reader, writer)
		r.wait(t)
		for range 10 {
			pass(stallTimeout - stallTimeout/samplesPerTimeout)
			reader.change(func(c *fakeConn) { c.sample.Written.DrainCount++ })
			writer.change(func(c *fakeConn) { c.sample.HeldSince = time.Now() })
		}
		for _, c := range r.conns {
			if c.evictions > 0 {
				t.Errorf("evicted after %v", c.at.Sub(c.start))
			}
		}
	})
}

// TestEvict_LargestFirst_UntilMemoryIsFree has many slow clients. They are disconnected one at a
// time, those that hold most first, and only until no client waits any more. A part of a frame
// counts as a whole body.
func TestEvict_LargestFirst_UntilMemoryIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := []*fakeConn{slowReader(1), slowReader(3), slowWriter(), slowReader(2), slowReader(maxBody + 1), slowReader(4)}
		r := startReclaimer(t, conns...)
		pass(time.Millisecond)
		end := r.wait(t)
		pass(stallTimeout - time.Millisecond)
		for i := range conns { // ends within the time of a few evictions
			if evicted(conns) == 3 {
				end()
				break
			}
			pass(evictInterval)
			if n := evicted(conns); n > i+2 {
				t.Errorf("%d evicted after %d intervals", n, i+1)
			}
		}
		pass(10 * stallTimeout)
		var order []int
		for range evicted(conns) {
			next := -1
			for i, c := range conns {
				if c.evictions > 0 && !slices.Contains(order, i) && (next < 0 || c.at.Before(conns[next].at)) {
					next = i
				}
			}
			order = append(order, next)
		}
		if want := []int{4, 2, 5}; !slices.Equal(order, want) {
			t.Errorf("evicted in the order %v, want %v", order, want)
		}
	})
}

func evicted(conns []*fakeConn) (n int) {
	for _, c := range conns {
		_, _, evictions := c.count()
		n += evictions
	}
	return n
}
