package admission

import (
	"math"
	"net"
	"time"

	"golang.org/x/time/rate"
)

const (
	// minReadSize is how many bytes are read at once from a client that can send fewer. A frame
	// that is larger is read as a whole in any case.
	minReadSize = 1 << 10

	// maxReadSize is the maximum number of bytes that one read brings, without the rest of a
	// frame.
	maxReadSize = 64 << 10
)

// Peer is a client that is not read because of its rate limit.
type Peer interface {
	// PeerEnded reports whether the client has closed its side of the connection. Data that is
	// not read yet can precede the end.
	PeerEnded() bool
}

// RateLimiter limits how fast one client can send. What exceeds the rate is not rejected: the
// hub does not read the client until it is due, and TCP slows the client down. A nil
// RateLimiter has no limit: Delay, MaxMessages and MaxRead can be called on it. One goroutine
// at a time can use a RateLimiter.
type RateLimiter struct {
	*bucket // read by others while the client waits; changed only while it does not
	key     bucketKey

	// Totals of the connection that are charged to the bucket.
	chargedMessages uint64
	chargedBytes    int64
}

// NewRateLimiter returns the rate limiter of a client at remote, or nil if there are no rates.
// subject can be empty. Release must follow.
func (bs *BucketStore) NewRateLimiter(subject string, remote net.Addr, rates Rates, now time.Time) *RateLimiter {
	if rates == (Rates{}) {
		return nil
	}
	key := bucketKey{subject: subject, rates: rates}
	if subject == "" {
		key.addr, _ = ipKey(remote)
	}
	return &RateLimiter{bucket: bs.acquire(key, now), key: key}
}

// Release gives the bucket of rl back, with what is left or owed, for when the client connects
// again. rl must not be used afterwards.
func (bs *BucketStore) Release(rl *RateLimiter, now time.Time) { bs.release(rl.key, rl.bucket, now) }

// Renew gives the bucket of rl back and acquires one like a new connection does: perhaps that
// of a connection that has ended after rl was made.
func (bs *BucketStore) Renew(rl *RateLimiter, now time.Time) {
	bs.release(rl.key, rl.bucket, now)
	rl.bucket = bs.acquire(rl.key, now)
}

// StartWait records that the hub does not read peer until the rate of rl allows it. If the peer
// ends its side meanwhile, a new connection from its address inherits its bucket. StopWait must
// follow.
func (bs *BucketStore) StartWait(rl *RateLimiter, peer Peer) {
	if rl.key.subject != "" {
		return
	}
	bs.mu.Lock()
	defer bs.mu.Unlock()
	e := bs.entries[rl.key]
	if e.waiting == nil {
		e.waiting = make(map[*RateLimiter]Peer)
	}
	e.waiting[rl] = peer
}

// StopWait undoes StartWait.
func (bs *BucketStore) StopWait(rl *RateLimiter) {
	if rl.key.subject != "" {
		return
	}
	bs.mu.Lock()
	defer bs.mu.Unlock()
	delete(bs.entries[rl.key].waiting, rl)
}

// StartAt sets the totals of the connection up to which rl charges nothing. It is called before
// the first Charge, if the connection had another RateLimiter before.
func (rl *RateLimiter) StartAt(messages uint64, bytes int64) {
	rl.chargedMessages, rl.chargedBytes = messages, bytes
}

// Charge charges the client for what it has sent, given the totals of its connection, and
// returns for how long nothing is to be read. What TakeOne has charged is not charged again,
// also if the totals reach it only at a later call.
func (rl *RateLimiter) Charge(messages uint64, bytes int64, now time.Time) time.Duration {
	newMessages, newBytes := max(messages, rl.chargedMessages), max(bytes, rl.chargedBytes)
	rl.charge(int(newMessages-rl.chargedMessages), int(newBytes-rl.chargedBytes), now)
	rl.chargedMessages, rl.chargedBytes = newMessages, newBytes
	return rl.delay(now)
}

// Delay returns for how long nothing is to be read, without what was read since the last Charge.
func (rl *RateLimiter) Delay(now time.Time) time.Duration {
	if rl == nil {
		return 0
	}
	return rl.delay(now)
}

// TakeOne charges one message in advance and returns 0, or returns a lower bound of the time
// until that is possible. A client that has waited calls it, because others may have used the
// same bucket meanwhile.
func (rl *RateLimiter) TakeOne(now time.Time) time.Duration {
	d := rl.takeOne(now)
	if d == 0 {
		rl.chargedMessages++
		rl.chargedBytes++
	}
	return d
}

// MaxMessages returns the total of messages of the connection up to which messages can be
// handled before the client has to wait, given the total so far: as many as its bucket has
// tokens, or what comes in a hundredth of a second if that is more, which keeps a fast client
// from waiting for each frame.
func (rl *RateLimiter) MaxMessages(messages uint64) uint64 {
	if rl == nil || rl.messages == nil {
		return math.MaxUint64
	}
	return max(messages, rl.chargedMessages) + uint64(allowedBurst(rl.messages, 1))
}

// MaxRead returns how many bytes can be read at once by the same rule; 0: any number.
func (rl *RateLimiter) MaxRead() int {
	if rl == nil || rl.bytes == nil {
		return 0
	}
	return allowedBurst(rl.bytes, minReadSize)
}

// allowedBurst returns the tokens of l, but at least minBurst and what comes in a hundredth
// of a second, and at most maxReadSize.
func allowedBurst(l *rate.Limiter, minBurst float64) int {
	minBurst = max(minBurst, float64(l.Limit())/100)
	if minBurst < maxReadSize { // otherwise the number of tokens does not matter
		minBurst = max(minBurst, l.Tokens())
	}
	return int(min(minBurst, maxReadSize))
}
