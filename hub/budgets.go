package hub

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// minBudgets is how many subjects and addresses there may be before those whose budgets are full are looked
// for.
const minBudgets = 1024

// limits are rates per second; 0: not limited.
type limits struct{ messages, bytes float64 }

// budget is what a client may still send: it fills up at its limits, up to one second's worth, and is
// below zero after more than that was read. Several sessions may use it at once.
type budget struct {
	messages *rate.Limiter // nil: not limited
	bytes    *rate.Limiter // likewise
	sessions int           // that use it; guarded by budgets.mu
}

func newBudget(l limits) *budget {
	return &budget{messages: newLimiter(l.messages), bytes: newLimiter(l.bytes)}
}

func newLimiter(perSecond float64) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
}

// charge takes what was read from the budget, however little is in it.
func (b *budget) charge(messages, bytes int, now time.Time) {
	charge(b.messages, messages, now)
	charge(b.bytes, bytes, now)
}

func charge(l *rate.Limiter, n int, now time.Time) {
	for l != nil && n > 0 { // one reservation is at most a burst
		part := min(n, l.Burst())
		l.ReserveN(now, part)
		n -= part
	}
}

// debt returns how long it takes until the budget is not below zero.
func (b *budget) debt(now time.Time) time.Duration {
	return max(debt(b.messages, now), debt(b.bytes, now))
}

func debt(l *rate.Limiter, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	return max(0, time.Duration(-l.TokensAt(now)/float64(l.Limit())*float64(time.Second)))
}

// advance charges for one message in advance, and returns 0, or else how long it takes at least until
// that can be done. Of many sessions that owe something together, one goes on at a time.
func (b *budget) advance(now time.Time) time.Duration {
	d := max(due(b.messages, now), due(b.bytes, now))
	switch {
	case d > 0:
	case b.messages != nil && !b.messages.AllowN(now, 1):
		return due(b.messages, now)
	case b.bytes != nil && !b.bytes.AllowN(now, 1): // for the message, another session has paid
		return due(b.bytes, now)
	}
	return d
}

// due returns how long it takes until one more may be sent.
func due(l *rate.Limiter, now time.Time) time.Duration {
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
func (b *budget) full(now time.Time) bool { return isFull(b.messages, now) && isFull(b.bytes, now) }

func isFull(l *rate.Limiter, now time.Time) bool {
	return l == nil || l.TokensAt(now) >= float64(l.Burst())
}

// budgetKey is who a budget belongs to, a subject or else an address, and what may be sent.
type budgetKey struct {
	subject string
	addr    netip.Addr
	limits  limits
}

// budgets keeps the budgets of clients that have gone until they are full again, so that coming back does not
// begin with a full one. All connections of a subject share one. Behind one address there may be many clients, so that
// each connection has its own, and those that come later go on with what those that have gone have left.
// All methods may be called concurrently.
type budgets struct {
	mu    sync.Mutex
	of    map[budgetKey]*owned
	sweep int // how many keys there may be before those that mean nothing any more are looked for
}

// owned are the budgets of one subject or address.
type owned struct {
	shared  *budget               // of a subject
	free    []*budget             // of an address: used by no session, in the order in which they were put
	resting map[*session]struct{} // likewise: sessions that are not read because of what they owe
	using   int                   // sessions
}

// take returns a budget, which put must follow.
func (k *budgets) take(of budgetKey, now time.Time) *budget {
	k.mu.Lock()
	defer k.mu.Unlock()
	o := k.of[of]
	if o == nil {
		o = k.add(of, now)
	}
	o.using++
	var b *budget
	if of.subject != "" {
		if o.shared == nil {
			o.shared = newBudget(of.limits)
		}
		b = o.shared
	} else if b = o.next(now); b == nil {
		b = newBudget(of.limits)
	}
	b.sessions++
	return b
}

// maxLooks is at how many sessions that rest a new connection looks.
const maxLooks = 64

// next returns the budget of a client that has gone, and nil if there is none that is not full. A client that has closed its
// connection has gone, although what it has sent before is still to be read.
func (o *owned) next(now time.Time) *budget {
	for len(o.free) > 0 {
		b := o.free[0]
		o.free[0] = nil
		o.free = o.free[1:]
		if !b.full(now) {
			return b
		}
	}
	looks := 0
	for s := range o.resting {
		if looks++; looks > maxLooks {
			break
		}
		if s.conn.PeerEnded() {
			return s.pace.budget
		}
	}
	return nil
}

// put gives a budget back.
func (k *budgets) put(of budgetKey, b *budget, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o := k.of[of]
	b.sessions--
	o.using--
	if b != o.shared && b.sessions == 0 && !b.full(now) {
		o.free = append(o.free, b)
	}
	if o.idle(now) {
		delete(k.of, of)
	}
}

// rest notes that a session is not read, or is again.
func (k *budgets) rest(s *session, rests bool) {
	if s.pace.of.subject != "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	o := k.of[s.pace.of]
	if !rests {
		delete(o.resting, s)
		return
	}
	if o.resting == nil {
		o.resting = make(map[*session]struct{})
	}
	o.resting[s] = struct{}{}
}

// add adds the budgets of one subject or address. When there are many, those that mean nothing any more go first. It is
// called with mu held.
func (k *budgets) add(of budgetKey, now time.Time) *owned {
	if k.of == nil {
		k.of, k.sweep = make(map[budgetKey]*owned), minBudgets
	}
	if len(k.of) >= k.sweep {
		for of, o := range k.of {
			if o.idle(now) {
				delete(k.of, of)
			}
		}
		k.sweep = max(minBudgets, 2*len(k.of))
	}
	o := new(owned)
	k.of[of] = o
	return o
}

// idle reports whether these are as those of one that was never seen.
func (o *owned) idle(now time.Time) bool {
	for len(o.free) > 0 && o.free[0].full(now) {
		o.free = o.free[1:]
	}
	return o.using == 0 && len(o.free) == 0 && (o.shared == nil || o.shared.full(now))
}
