package hub

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/admission"
	"github.com/sechlol/go-message-hub/internal/socket"
)

// rateLimiter stops the reading of a client that exceeds its rate. The zero value limits
// nothing. The read loop of the connection owns it.
type rateLimiter struct {
	limiter  *admission.RateLimiter // nil: not rate limited
	requests uint64                 // frames handled, without ACK and PONG
}

// maxRequests returns the value of requests at which the client must wait.
func (r *rateLimiter) maxRequests() uint64 { return r.limiter.MaxMessages(r.requests) }

// charge charges the client for what it has sent on sock since the last call, and returns for
// how long nothing is to be read. limiter must not be nil.
func (r *rateLimiter) charge(sock *socket.Conn, now time.Time) time.Duration {
	return r.limiter.Charge(r.requests, sock.BytesRead(), now)
}

// release gives the bucket back, with what is left or owed, for when the client connects
// again. It is called when the client is not read any more, and before another connection
// resumes its session.
func (r *rateLimiter) release(buckets *admission.BucketStore, sock *socket.Conn) {
	if r.limiter == nil {
		return
	}
	now := time.Now()
	r.charge(sock, now)
	buckets.Release(r.limiter, now)
	r.limiter = nil
}

// resume continues with the bucket of the connection whose session was resumed: a new
// connection begins with a bucket of its own while the old one has not ended.
func (r *rateLimiter) resume(buckets *admission.BucketStore, sock *socket.Conn) {
	if r.limiter != nil {
		now := time.Now()
		r.charge(sock, now)
		buckets.Renew(r.limiter, now)
	}
}

// setRates continues with a bucket for the current rates of c, whose rateLimiter r is. What the
// client has sent so far is charged to the bucket of the earlier rates.
func (r *rateLimiter) setRates(c *conn) {
	buckets := &c.hub.buckets
	r.release(buckets, c.sock)
	r.limiter = buckets.NewRateLimiter(c.subject(), c.sock.RemoteAddr(), c.lowerRates(c.hub.rates), time.Now())
	if r.limiter != nil {
		r.limiter.StartAt(r.requests, c.sock.BytesRead())
	}
}

// wait waits while the client of c, whose rateLimiter r is, exceeds its rate. The read loop
// calls it between two reads.
func (r *rateLimiter) wait(c *conn) error {
	if r.limiter == nil {
		return nil
	}
	d := r.charge(c.sock, time.Now())
	if d <= 0 {
		return nil
	}
	if err := c.sock.Compact(); err != nil { // a client that is not read must hold no read buffer
		return err
	}
	return r.waitForTokens(c, d)
}

// waitForTokens waits for d, and then until one more message can be sent, which it charges in
// advance.
func (r *rateLimiter) waitForTokens(c *conn, d time.Duration) error {
	h := c.hub
	h.counters.rateLimited.Add(1)
	h.limitedLog.LogWarn("client rate limited", "reason", "rate exceeded", "client", c.id.Load(), "not_read_for", d.Round(time.Millisecond))
	c.flags.Or(flagRateLimited)
	h.buckets.StartWait(r.limiter, c.sock)
	defer c.flags.And(^flagRateLimited)
	defer h.buckets.StopWait(r.limiter)
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
		case <-h.closing:
			return socket.ErrInterrupted
		}
		if d = r.limiter.TakeOne(time.Now()); d > 0 { // others have used the same bucket meanwhile
			timer.Reset(d)
		}
	}
	return nil
}
