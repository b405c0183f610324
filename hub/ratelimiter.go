package hub

import (
	"math"
	"net"
	"time"

	"golang.org/x/time/rate"

	"github.com/sechlol/go-message-hub/internal/socket"
)

// rateLimiter limits how fast a client can send. What exceeds the rate is not rejected: the
// hub does not read the client until it is due, and TCP slows the client down.
type rateLimiter struct {
	*bucket
	key bucketKey

	// Totals of the connection that are charged to the bucket.
	chargedMessages uint64
	chargedBytes    int64
}

// newRateLimiter returns the rate limiter of a client at addr, with the rates of the hub or
// the lower ones of its permissions. It returns nil if there are none.
// conn.releaseRateLimiter must follow.
func (h *Hub) newRateLimiter(addr net.Addr, permissions *Permissions) *rateLimiter {
	if permissions == nil {
		permissions = new(Permissions)
	}
	l := rateLimits{lowerRate(h.config.MessageRate, permissions.MessageRate), lowerRate(h.config.ByteRate, permissions.ByteRate)}
	if l == (rateLimits{}) {
		return nil
	}
	key := bucketKey{subject: permissions.Subject, limits: l}
	if key.subject == "" {
		key.addr, _ = ipKey(addr)
	}
	return &rateLimiter{bucket: h.buckets.acquire(key, time.Now()), key: key}
}

// lowerRate returns the lower of two rates; 0: unlimited.
func lowerRate(a, b float64) float64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// chargeRateLimiter charges the client for what it has sent since the last call, and returns
// for how long nothing is to be read.
func (c *conn) chargeRateLimiter(now time.Time) time.Duration {
	rl := c.limiter
	messages, bytes := c.requests, c.sock.BytesRead()
	rl.charge(int(messages-rl.chargedMessages), int(bytes-rl.chargedBytes), now)
	rl.chargedMessages, rl.chargedBytes = messages, bytes
	return rl.delay(now)
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
	c.hub.buckets.release(c.limiter.key, c.limiter.bucket, now)
	c.limiter = nil
}

// resumeRateLimiter continues with the bucket of the connection whose session was resumed: a
// new connection begins with a bucket of its own while the old one has not ended.
func (c *conn) resumeRateLimiter() {
	if rl := c.limiter; rl != nil {
		now := time.Now()
		c.chargeRateLimiter(now)
		c.hub.buckets.release(rl.key, rl.bucket, now)
		rl.bucket = c.hub.buckets.acquire(rl.key, now)
	}
}

// maxRequests returns the value of requests up to which frames can be handled before the
// client has to wait: as many as its bucket has tokens, or what comes in a hundredth of a
// second if that is more, which keeps a fast client from waiting for each frame.
func (c *conn) maxRequests() uint64 {
	if c.limiter == nil || c.limiter.messages == nil {
		return math.MaxUint64
	}
	return max(c.requests, c.limiter.chargedMessages) + uint64(allowedBurst(c.limiter.messages, 1))
}

// maxReadByRate returns how many bytes can be read at once by the same rule; 0: any number.
func (c *conn) maxReadByRate() int {
	if c.limiter == nil || c.limiter.bytes == nil {
		return 0
	}
	return allowedBurst(c.limiter.bytes, minReadSize)
}

// minReadSize is how many bytes are read at once from a client that can send fewer. A frame
// that is larger is read as a whole in any case.
const minReadSize = 1 << 10

// allowedBurst returns the tokens of l, but at least minBurst and what comes in a hundredth
// of a second, and at most maxReadSize.
func allowedBurst(l *rate.Limiter, minBurst float64) int {
	minBurst = max(minBurst, float64(l.Limit())/100)
	if minBurst < maxReadSize { // otherwise the number of tokens does not matter
		minBurst = max(minBurst, l.Tokens())
	}
	return int(min(minBurst, maxReadSize))
}

// maxReadSize is the maximum number of bytes that one read brings, without the rest of a
// frame.
const maxReadSize = 64 << 10

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

// waitInitialRateLimit is waitRateLimit for a client whose first frame was accepted, perhaps
// with more frames behind it. What the client owes from an earlier connection is due before
// they are handled.
func (rb *readBatch) waitInitialRateLimit() error {
	c := rb.conn
	if c.limiter == nil {
		return nil
	}
	if d := c.chargeRateLimiter(time.Now()); d > 0 {
		if err := rb.offerBatch(); err != nil {
			return err
		}
		rb.flusher.Reset() // sends WELCOME
		rb.releaseRecvBuf()
		if err := c.waitForTokens(d); err != nil {
			return err
		}
	}
	rb.maxRequests = c.maxRequests()
	return nil
}

// waitForTokens waits for d, and then until one more message can be sent, which it charges in
// advance.
func (c *conn) waitForTokens(d time.Duration) error {
	c.hub.counters.rateLimited.Add(1)
	c.hub.limitedLog.LogWarn("client rate limited", "reason", "rate exceeded", "client", c.id.Load(), "not_read_for", d.Round(time.Millisecond))
	c.flags.Or(flagRateLimited)
	c.hub.buckets.setWaiting(c, true)
	defer c.flags.And(^flagRateLimited)
	defer c.hub.buckets.setWaiting(c, false)
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
		if d = c.limiter.takeOne(time.Now()); d > 0 { // others have used the same bucket meanwhile
			timer.Reset(d)
		}
	}
	c.limiter.chargedMessages, c.limiter.chargedBytes = c.limiter.chargedMessages+1, c.limiter.chargedBytes+1
	return nil
}
