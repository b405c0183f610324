package hub

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/admission"
)

// TestRateLimiter_ZeroValue_LimitsNothing checks the rateLimiter of a client without a limit.
func TestRateLimiter_ZeroValue_LimitsNothing(t *testing.T) {
	c := newTestConn(t, Config{})
	if n := c.rate.maxRequests(); n != math.MaxUint64 {
		t.Errorf("at most %d requests", n)
	}
	c.rate.requests = 1e9
	if err := c.rate.wait(c); err != nil {
		t.Error(err)
	}
	c.rate.resume(&c.hub.buckets, c.sock)
	c.rate.release(&c.hub.buckets, c.sock)
}

// TestRateLimiter_Wait_EndsWhenDueOrClosed exceeds the rate. The client is not read until it
// may send one more message, and the wait ends at once when the connection is closed.
func TestRateLimiter_Wait_EndsWhenDueOrClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestConn(t, Config{})
		c.rate.limiter = c.hub.buckets.NewRateLimiter("", c.sock.RemoteAddr(), admission.Rates{Messages: 1}, time.Now())
		defer c.rate.release(&c.hub.buckets, c.sock)
		c.rate.requests = 11 // the burst is 1
		start := time.Now()
		if err := c.rate.wait(c); err != nil {
			t.Error(err)
		}
		if waited := time.Since(start); waited < 10*time.Second || waited > 12*time.Second {
			t.Errorf("waited %v", waited)
		}
		if c.is(flagRateLimited) {
			t.Error("rate limited after the wait")
		}
		c.rate.requests += 100
		start = time.Now()
		time.AfterFunc(time.Second, func() {
			if !c.is(flagRateLimited) {
				t.Error("not rate limited during the wait")
			}
			c.close(CloseLost)
		})
		if err := c.rate.wait(c); err != errConnClosed {
			t.Errorf("%v, want %v", err, errConnClosed)
		}
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}
