package hub

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
)

// chargeRateLimiter charges the client for what it has sent since the last call, and returns
// for how long nothing is to be read.
func (c *conn) chargeRateLimiter(now time.Time) time.Duration {
	return c.limiter.Charge(c.requests, c.sock.BytesRead(), now)
}

// releaseRateLimiter gives the bucket back, with what is left or owed, for when the client
// connects again. It is called when the client is not read any more, and before another
// connection resumes its session.
func (c *conn) releaseRateLimiter() {
	if c.limiter == nil {
		return
	}
	now := time.Now()
	c.chargeRateLimiter(now)
	c.hub.buckets.Release(c.limiter, now)
	c.limiter = nil
}

// resumeRateLimiter continues with the bucket of the connection whose session was resumed: a
// new connection begins with a bucket of its own while the old one has not ended.
func (c *conn) resumeRateLimiter() {
	if c.limiter != nil {
		now := time.Now()
		c.chargeRateLimiter(now)
		c.hub.buckets.Renew(c.limiter, now)
	}
}

// waitRateLimit waits while the client exceeds its rate. The read loop calls it between two
// reads.
func (c *conn) waitRateLimit() error {
	if c.limiter == nil {
		return nil
	}
	d := c.chargeRateLimiter(time.Now())
	if d <= 0 {
		return nil
	}
	if err := c.sock.Compact(); err != nil { // a client that is not read must hold no read buffer
		return err
	}
	return c.waitForTokens(d)
}

// waitForTokens waits for d, and then until one more message can be sent, which it charges in
// advance.
func (c *conn) waitForTokens(d time.Duration) error {
	c.hub.counters.rateLimited.Add(1)
	c.hub.limitedLog.LogWarn("client rate limited", "reason", "rate exceeded", "client", c.id.Load(), "not_read_for", d.Round(time.Millisecond))
	c.flags.Or(flagRateLimited)
	c.hub.buckets.StartWait(c.limiter, c.sock)
	defer c.flags.And(^flagRateLimited)
	defer c.hub.buckets.StopWait(c.limiter)
	var interrupted <-chan struct{}
	if v2 := c.v2.Load(); v2 != nil {
		interrupted = v2.interrupted.Done()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for d > 0 {
		select {
		case <-timer.C:
		case <-c.done.Done():
			return errConnClosed
		case <-interrupted:
			return socket.ErrInterrupted
		case <-c.hub.closing:
			return socket.ErrInterrupted
		}
		if d = c.limiter.TakeOne(time.Now()); d > 0 { // others have used the same bucket meanwhile
			timer.Reset(d)
		}
	}
	return nil
}
