package hub

import (
	"math"
	"net"
	"time"

	"golang.org/x/time/rate"

	"github.com/sechlol/go-message-hub/internal/socket"
)

// rateLimiter is how fast a client may send. What is over is not refused: the client is not read until
// it is due, so that TCP carries the news.
type rateLimiter struct {
	*bucket
	key bucketKey

	// What was charged at the last look.
	chargedMessages uint64
	chargedBytes    int64
}

// newRateLimiter returns that of a client at an address: what the hub allows, or less; nil when nothing bounds
// it. releaseRateLimiter must follow.
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

// lowerRate returns the slower of two rates; 0: as fast as it can.
func lowerRate(a, b float64) float64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// chargeRateLimiter charges the client with what it has sent since the last look, and returns how long nothing
// is to be read.
func (c *conn) chargeRateLimiter(now time.Time) time.Duration {
	rl := c.limiter
	messages, bytes := c.requests, c.sock.BytesRead()
	rl.charge(int(messages-rl.chargedMessages), int(bytes-rl.chargedBytes), now)
	rl.chargedMessages, rl.chargedBytes = messages, bytes
	return rl.delay(now)
}

// releaseRateLimiter gives back what the client may still send, or owes, for when it comes back. It is called
// when the client is not read any more, and before anybody resumes its session.
func (c *conn) releaseRateLimiter() {
	if c.limiter == nil {
		return
	}
	now := time.Now()
	c.chargeRateLimiter(now)
	c.hub.buckets.release(c.limiter.key, c.limiter.bucket, now)
	c.limiter = nil
}

// resumeRateLimiter goes on with what the client has left from the connection whose session it has resumed: a
// new connection begins with a budget of its own while the old one has not ended.
func (c *conn) resumeRateLimiter() {
	if rl := c.limiter; rl != nil {
		now := time.Now()
		c.chargeRateLimiter(now)
		c.hub.buckets.release(rl.key, rl.bucket, now)
		rl.bucket = c.hub.buckets.acquire(rl.key, now)
	}
}

// maxRequests returns up to which value of asked frames may be handled before the client has to rest: as many as its
// budget has, or if that is more what comes in a hundredth of a second, so that a fast one does not rest
// for each.
func (c *conn) maxRequests() uint64 {
	if c.limiter == nil || c.limiter.messages == nil {
		return math.MaxUint64
	}
	return max(c.requests, c.limiter.chargedMessages) + uint64(allowedBurst(c.limiter.messages, 1))
}

// maxReadByRate returns how many bytes may be read at once by the same rule, and 0 for any number.
func (c *conn) maxReadByRate() int {
	if c.limiter == nil || c.limiter.bytes == nil {
		return 0
	}
	return allowedBurst(c.limiter.bytes, minReadSize)
}

// minReadSize is how many bytes are read at once of a client that may send fewer. A frame that is larger is read as
// a whole in any case.
const minReadSize = 1 << 10

func allowedBurst(l *rate.Limiter, minBurst float64) int {
	minBurst = max(minBurst, float64(l.Limit())/100)
	if minBurst < maxReadSize { // otherwise it does not matter how much there is
		minBurst = max(minBurst, l.Tokens())
	}
	return int(min(minBurst, maxReadSize))
}

// maxReadSize is how many bytes one read brings at most, without the rest of a frame.
const maxReadSize = 64 << 10

// waitRateLimit waits while the client has sent more than it may. The goroutine that reads calls it between two reads.
func (c *conn) waitRateLimit() error {
	if c.limiter == nil {
		return nil
	}
	d := c.chargeRateLimiter(time.Now())
	if d <= 0 {
		return nil
	}
	if err := c.sock.Compact(); err != nil { // memory to read into is not for those who are not read
		return err
	}
	return c.waitForTokens(d)
}

// waitInitialRateLimit is rest for a client that has said who it is, and perhaps more at once. What it owes from an
// earlier connection is due before that is handled.
func (rb *readBatch) waitInitialRateLimit() error {
	c := rb.conn
	if c.limiter == nil {
		return nil
	}
	if d := c.chargeRateLimiter(time.Now()); d > 0 {
		if err := rb.offerBatch(); err != nil {
			return err
		}
		rb.flusher.Reset() // WELCOME is to leave
		rb.releaseRecvBuf()
		if err := c.waitForTokens(d); err != nil {
			return err
		}
	}
	rb.maxRequests = c.maxRequests()
	return nil
}

// waitForTokens waits for that long, and then until one more message may be sent, which it charges.
func (c *conn) waitForTokens(d time.Duration) error {
	c.hub.counters.rateLimited.Add(1)
	c.hub.rateLimitLog.logWarn(c.hub.config.Logger, "client slowed down", "reason", "faster than it may be", "client", c.id.Load(), "not_read_for", d.Round(time.Millisecond))
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
		if d = c.limiter.takeOne(time.Now()); d > 0 { // others have sent for the same budget meanwhile
			timer.Reset(d)
		}
	}
	c.limiter.chargedMessages, c.limiter.chargedBytes = c.limiter.chargedMessages+1, c.limiter.chargedBytes+1
	return nil
}
