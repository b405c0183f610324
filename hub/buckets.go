package hub

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// minBucketKeys is how many subjects and addresses there may be before those whose budgets are full are looked
// for.
const minBucketKeys = 1024

// rateLimits are rates per second; 0: not limited.
type rateLimits struct{ messages, bytes float64 }

// bucket is what a client may still send: it fills up at its limits, up to one second's worth, and is
// below zero after more than that was read. Several sessions may use it at once.
type bucket struct {
	messages *rate.Limiter // nil: not limited
	bytes    *rate.Limiter // likewise
	users    int           // that use it; guarded by bucketStore.mu
}

func newBucket(l rateLimits) *bucket {
	return &bucket{messages: newLimiter(l.messages), bytes: newLimiter(l.bytes)}
}

func newLimiter(perSecond float64) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
}

// charge takes what was read from the budget, however little is in it.
func (b *bucket) charge(messages, bytes int, now time.Time) {
	chargeLimiter(b.messages, messages, now)
	chargeLimiter(b.bytes, bytes, now)
}

func chargeLimiter(l *rate.Limiter, n int, now time.Time) {
	for l != nil && n > 0 { // one reservation is at most a burst
		part := min(n, l.Burst())
		l.ReserveN(now, part)
		n -= part
	}
}

// delay returns how long it takes until the budget is not below zero.
func (b *bucket) delay(now time.Time) time.Duration {
	return max(limiterDelay(b.messages, now), limiterDelay(b.bytes, now))
}

func limiterDelay(l *rate.Limiter, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	return max(0, time.Duration(-l.TokensAt(now)/float64(l.Limit())*float64(time.Second)))
}

// takeOne charges for one message in advance, and returns 0, or else how long it takes at least until
// that can be done. Of many sessions that owe something together, one goes on at a time.
func (b *bucket) takeOne(now time.Time) time.Duration {
	d := max(tokenDelay(b.messages, now), tokenDelay(b.bytes, now))
	switch {
	case d > 0:
	case b.messages != nil && !b.messages.AllowN(now, 1):
		return tokenDelay(b.messages, now)
	case b.bytes != nil && !b.bytes.AllowN(now, 1): // for the message, another session has paid
		return tokenDelay(b.bytes, now)
	}
	return d
}

// tokenDelay returns how long it takes until one more may be sent.
func tokenDelay(l *rate.Limiter, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	missing := 1 - l.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing/float64(l.Limit())*float64(time.Second)) + 1 // and never 0
}

// full reports whether the budget is like a new one.
func (b *bucket) full(now time.Time) bool { return isFull(b.messages, now) && isFull(b.bytes, now) }

func isFull(l *rate.Limiter, now time.Time) bool {
	return l == nil || l.TokensAt(now) >= float64(l.Burst())
}

// bucketKey is who a budget belongs to, a subject or else an address, and what may be sent.
type bucketKey struct {
	subject string
	addr    netip.Addr
	limits  rateLimits
}

// bucketStore keeps the budgets of clients that have gone until they are full again, so that coming back does not
// begin with a full one. All connections of a subject share one. Behind one address there may be many clients, so that
// each connection has its own, and those that come later go on with what those that have gone have left.
// All methods may be called concurrently.
type bucketStore struct {
	mu      sync.Mutex
	entries map[bucketKey]*bucketEntry
	sweepAt int // how many keys there may be before those that mean nothing any more are looked for
}

// bucketEntry are the budgets of one subject or address.
type bucketEntry struct {
	shared  *bucket            // of a subject
	free    []*bucket          // of an address: used by no session, in the order in which they were put
	waiting map[*conn]struct{} // likewise: sessions that are not read because of what they owe
	users   int                // sessions
}

// acquire returns a budget, which put must follow.
func (bs *bucketStore) acquire(key bucketKey, now time.Time) *bucket {
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
			e.shared = newBucket(key.limits)
		}
		b = e.shared
	} else if b = e.inherit(now); b == nil {
		b = newBucket(key.limits)
	}
	b.users++
	return b
}

// maxInheritScan is at how many sessions that rest a new connection looks.
const maxInheritScan = 64

// inherit returns the budget of a client that has gone, and nil if there is none that is not full. A client that has closed its
// connection has gone, although what it has sent before is still to be read.
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
	for c := range e.waiting {
		if scanned++; scanned > maxInheritScan {
			break
		}
		if c.sock.PeerEnded() {
			return c.limiter.bucket
		}
	}
	return nil
}

// release gives a budget back.
func (bs *bucketStore) release(key bucketKey, b *bucket, now time.Time) {
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

// setWaiting notes that a session is not read, or is again.
func (bs *bucketStore) setWaiting(c *conn, waiting bool) {
	if c.limiter.key.subject != "" {
		return
	}
	bs.mu.Lock()
	defer bs.mu.Unlock()
	e := bs.entries[c.limiter.key]
	if !waiting {
		delete(e.waiting, c)
		return
	}
	if e.waiting == nil {
		e.waiting = make(map[*conn]struct{})
	}
	e.waiting[c] = struct{}{}
}

// addEntry adds the budgets of one subject or address. When there are many, those that mean nothing any more go first. It is
// called with mu held.
func (bs *bucketStore) addEntry(key bucketKey, now time.Time) *bucketEntry {
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

// idle reports whether these are as those of one that was never seen.
func (e *bucketEntry) idle(now time.Time) bool {
	for len(e.free) > 0 && e.free[0].full(now) {
		e.free = e.free[1:]
	}
	return e.users == 0 && len(e.free) == 0 && (e.shared == nil || e.shared.full(now))
}
