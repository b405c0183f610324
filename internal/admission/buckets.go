package admission

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// minBucketKeys is the minimum number of keys in a BucketStore before it looks for idle
// entries to delete.
const minBucketKeys = 1024

// Rates are rates per second; 0 means no limit.
type Rates struct{ Messages, Bytes float64 }

// Lower returns the lower of the two rates of each kind.
func (r Rates) Lower(other Rates) Rates {
	return Rates{lowerRate(r.Messages, other.Messages), lowerRate(r.Bytes, other.Bytes)}
}

// lowerRate returns the lower of two rates; 0: unlimited.
func lowerRate(a, b float64) float64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// bucket is a pair of token buckets: the messages and bytes that a client can still send. It
// fills at its Rates, up to one second's worth. It is negative after more than
// its content was read. Several connections can share a bucket.
type bucket struct {
	messages *rate.Limiter // nil: not limited
	bytes    *rate.Limiter // nil: not limited
	users    int           // connections that use the bucket; guarded by BucketStore.mu
}

func newBucket(rates Rates) *bucket {
	return &bucket{messages: newLimiter(rates.Messages), bytes: newLimiter(rates.Bytes)}
}

func newLimiter(perSecond float64) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
}

// charge removes the tokens for what was read, even if the bucket becomes negative.
func (b *bucket) charge(messages, bytes int, now time.Time) {
	chargeLimiter(b.messages, messages, now)
	chargeLimiter(b.bytes, bytes, now)
}

func chargeLimiter(l *rate.Limiter, n int, now time.Time) {
	for l != nil && n > 0 { // one reservation is at most one burst
		part := min(n, l.Burst())
		l.ReserveN(now, part)
		n -= part
	}
}

// delay returns the time until the bucket is not negative.
func (b *bucket) delay(now time.Time) time.Duration {
	return max(limiterDelay(b.messages, now), limiterDelay(b.bytes, now))
}

func limiterDelay(l *rate.Limiter, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	return max(0, time.Duration(-l.TokensAt(now)/float64(l.Limit())*float64(time.Second)))
}

// takeOne charges one message in advance and returns 0, or returns a lower bound of the time
// until that is possible. When several connections share a negative bucket, one of them
// continues at a time.
func (b *bucket) takeOne(now time.Time) time.Duration {
	d := max(tokenDelay(b.messages, now), tokenDelay(b.bytes, now))
	switch {
	case d > 0:
	case b.messages != nil && !b.messages.AllowN(now, 1):
		return tokenDelay(b.messages, now)
	case b.bytes != nil && !b.bytes.AllowN(now, 1): // the message token taken above stays charged
		return tokenDelay(b.bytes, now)
	}
	return d
}

// tokenDelay returns the time until one token is available.
func tokenDelay(l *rate.Limiter, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	missing := 1 - l.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing/float64(l.Limit())*float64(time.Second)) + 1 // + 1: never 0
}

// full reports whether the bucket is full, like a new one.
func (b *bucket) full(now time.Time) bool { return isFull(b.messages, now) && isFull(b.bytes, now) }

func isFull(l *rate.Limiter, now time.Time) bool {
	return l == nil || l.TokensAt(now) >= float64(l.Burst())
}

// bucketKey identifies the owner of buckets, a subject or else an address, and their rates.
type bucketKey struct {
	subject string
	addr    netip.Addr
	rates   Rates
}

// BucketStore keeps the buckets of disconnected clients until they are full again. Otherwise a
// client could get a full bucket by reconnecting. All connections of a subject share one
// bucket. Many clients can use one address, therefore each connection without a subject has
// its own bucket, and a later connection from the address inherits the bucket of a closed one.
// The zero value is empty. All methods can be called concurrently.
type BucketStore struct {
	mu      sync.Mutex
	entries map[bucketKey]*bucketEntry
	sweepAt int // number of keys at which the next addEntry deletes idle entries
}

// bucketEntry holds the buckets of one subject or address.
type bucketEntry struct {
	shared  *bucket               // only of a subject
	free    []*bucket             // only of an address: buckets without users, in the order of release
	waiting map[*RateLimiter]Peer // only of an address: clients that are not read for now
	users   int                   // number of connections
}

// acquire returns a bucket for key. The caller must release it.
func (bs *BucketStore) acquire(key bucketKey, now time.Time) *bucket {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	e := bs.entries[key]
	if e == nil {
		e = bs.addEntry(key, now)
	}
	e.users++
	var b *bucket
	if key.subject != "" {
		if e.shared == nil {
			e.shared = newBucket(key.rates)
		}
		b = e.shared
	} else if b = e.inherit(now); b == nil {
		b = newBucket(key.rates)
	}
	b.users++
	return b
}

// maxInheritScan is the maximum number of rate-limited connections that inherit checks for a
// new connection.
const maxInheritScan = 64

// inherit returns the bucket of a client that has disconnected, or nil if all such buckets are
// full. A client that has closed its side of a connection counts as disconnected, although the
// hub has not read all of its data yet.
func (e *bucketEntry) inherit(now time.Time) *bucket {
	for len(e.free) > 0 {
		b := e.free[0]
		e.free[0] = nil
		e.free = e.free[1:]
		if !b.full(now) {
			return b
		}
	}
	scanned := 0
	for rl, peer := range e.waiting {
		if scanned++; scanned > maxInheritScan {
			break
		}
		if peer.PeerEnded() {
			return rl.bucket
		}
	}
	return nil
}

// release returns a bucket to the store.
func (bs *BucketStore) release(key bucketKey, b *bucket, now time.Time) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	e := bs.entries[key]
	b.users--
	e.users--
	if b != e.shared && b.users == 0 && !b.full(now) {
		e.free = append(e.free, b)
	}
	if e.idle(now) {
		delete(bs.entries, key)
	}
}

// addEntry adds an entry for key. If there are sweepAt entries, it deletes the idle ones
// first. It is called with mu held.
func (bs *BucketStore) addEntry(key bucketKey, now time.Time) *bucketEntry {
	if bs.entries == nil {
		bs.entries, bs.sweepAt = make(map[bucketKey]*bucketEntry), minBucketKeys
	}
	if len(bs.entries) >= bs.sweepAt {
		for key, e := range bs.entries {
			if e.idle(now) {
				delete(bs.entries, key)
			}
		}
		bs.sweepAt = max(minBucketKeys, 2*len(bs.entries))
	}
	e := new(bucketEntry)
	bs.entries[key] = e
	return e
}

// idle reports whether e has the same state as a new entry.
func (e *bucketEntry) idle(now time.Time) bool {
	for len(e.free) > 0 && e.free[0].full(now) {
		e.free = e.free[1:]
	}
	return e.users == 0 && len(e.free) == 0 && (e.shared == nil || e.shared.full(now))
}
