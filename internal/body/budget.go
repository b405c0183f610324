package body

import (
	"container/list"
	"errors"
	"sync"
	"time"
)

// Patience is how long a holder waits for memory before it is to give up what it can do
// without, each time: see Account.Yield.
const Patience = time.Millisecond

// ErrStopped is what Draw returns when its caller was stopped, or its account interrupted, before
// there was room.
var ErrStopped = errors.New("stopped waiting for memory")

// Budget bounds the bytes of all buffers that are drawn from it. A drawer that
// finds no room waits its turn: first come, first served. All its methods, and
// those of its accounts, may be called concurrently.
type Budget struct {
	// Static after construction.
	limit   int64
	floor   int64
	pressed chan struct{} // capacity 1

	mu    sync.Mutex
	used  int64
	peak  int64
	wait  int       // how many claims there are
	queue list.List // of *claim: those who wait for room in the budget
}

// Account is one holder's part of a budget: what it has drawn and how much it
// may. It outlives its holder for as long as buffers charged to it are queued
// somewhere.
//
// A part of that is overhead: memory that only the holder itself can give back, by going on. It
// counts against the limit of the budget and not against the share, or the holder would wait for
// itself. Something else must bound it.
type Account struct {
	// Static after construction.
	budget *Budget
	share  int64

	// Yield is called by Draw for each Patience that it has waited: it gives up what the holder can
	// do without, if that helps anybody who waits, whoever is charged for it. nil: there is nothing. It belongs to the
	// one who calls Draw.
	Yield func()

	// Guarded by budget.mu.
	held        int64
	overhead    int64  // part of held
	claim       *claim // waits; at most one at a time
	interrupted bool   // nothing is waited for any more
}

// claim is somebody who waits. Guarded by budget.mu until ready is closed.
type claim struct {
	account  *Account
	bytes    int64
	overhead bool
	granted  bool          // the bytes are charged
	ready    chan struct{} // closed when they are, or the account is interrupted
	place    *list.Element // in budget.queue; nil while it waits for its share
}

// NewBudget returns a budget of limit bytes, and floor bytes beyond that for each account: for those
// nobody waits, so that whoever needs little has it whatever the others hold.
func NewBudget(limit, floor int64) *Budget {
	return &Budget{limit: limit, floor: floor, pressed: make(chan struct{}, 1)}
}

// Account opens an account that may hold at most share bytes of the budget, and overhead. A
// single buffer larger than the share, or than the whole budget, is still given
// to one who holds nothing but overhead (while nobody holds anything): it must not wait for
// ever.
func (b *Budget) Account(share int64) *Account {
	return &Account{budget: b, share: share}
}

// Pressed receives a value when somebody begins to wait, in the budget or in
// its own share. One value may stand for several.
func (b *Budget) Pressed() <-chan struct{} { return b.pressed }

// Anybody reports whether somebody waits, for room in the budget or in a share.
func (b *Budget) Anybody() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wait > 0
}

// Waiting reports whether anybody waits for room in the budget itself.
func (b *Budget) Waiting() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queue.Len() > 0
}

// Used returns the bytes of the budget that are drawn now, and the most that ever were.
func (b *Budget) Used() (now, peak int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.peak
}

// Waiting reports whether the account's holder waits for room in its share.
func (a *Account) Waiting() bool {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	return a.claim != nil && a.claim.place == nil
}

// TryDraw returns a buffer of at least n bytes, or nil when it would have to
// wait for it.
func (a *Account) TryDraw(n int) *Buffer {
	return a.tryDraw(n, false)
}

// TryDrawOverhead is TryDraw for overhead.
func (a *Account) TryDrawOverhead(n int) *Buffer { return a.tryDraw(n, true) }

func (a *Account) tryDraw(n int, overhead bool) *Buffer {
	if !a.charge(int64(Capacity(n)), overhead) {
		return nil
	}
	return a.take(n, overhead)
}

// Draw returns a buffer of at least n bytes. It waits until there is room for it
// in the account's share and then in the budget, and returns ErrStopped when
// stop is closed before, or Interrupt called. Only one goroutine at a time may draw from an account
// in this way.
func (a *Account) Draw(n int, stop <-chan struct{}) (*Buffer, error) { return a.draw(n, false, stop) }

// DrawOverhead is Draw for overhead: it waits for room in the budget alone.
func (a *Account) DrawOverhead(n int, stop <-chan struct{}) (*Buffer, error) {
	return a.draw(n, true, stop)
}

// Interrupt ends the wait of the account's holder, and each that would follow, with ErrStopped. What
// nobody has to wait for can still be drawn.
func (a *Account) Interrupt() {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	a.interrupted = true
	if c := a.claim; c != nil {
		b.forget(c)
		close(c.ready)
		b.grant()
	}
}

func (a *Account) draw(n int, overhead bool, stop <-chan struct{}) (*Buffer, error) {
	size := int64(Capacity(n))
	if a.charge(size, overhead) {
		return a.take(n, overhead), nil
	}
	c := a.enqueue(size, overhead)
	var patience <-chan time.Time
	if a.Yield != nil {
		t := time.NewTicker(Patience)
		defer t.Stop()
		patience = t.C
	}
	for {
		select {
		case <-c.ready:
			if !c.granted {
				return nil, ErrStopped
			}
			return a.take(n, overhead), nil
		case <-stop:
			a.withdraw(c)
			return nil, ErrStopped
		case <-patience:
			a.Yield()
		}
	}
}

// Force returns a buffer of at least n bytes without waiting, beyond the limits if it
// must be. It is for what cannot wait and is bounded by something else.
func (a *Account) Force(n int) *Buffer { return a.force(n, false) }

// ForceOverhead is Force for overhead.
func (a *Account) ForceOverhead(n int) *Buffer { return a.force(n, true) }

func (a *Account) force(n int, overhead bool) *Buffer {
	a.budget.mu.Lock()
	a.book(int64(Capacity(n)), overhead)
	a.budget.mu.Unlock()
	return a.take(n, overhead)
}

// take hands out a buffer that is already charged.
func (a *Account) take(n int, overhead bool) *Buffer {
	buffer := Get(n)
	buffer.account, buffer.overhead = a, overhead
	return buffer
}

// charge books n bytes if nobody has to wait for it.
func (a *Account) charge(n int64, overhead bool) bool {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.held+n > b.floor && (b.queue.Len() > 0 || !a.fits(n, overhead) || !b.fits(a, n)) {
		return false
	}
	a.book(n, overhead)
	return true
}

// enqueue registers a claim for n bytes, which may be granted at once.
func (a *Account) enqueue(n int64, overhead bool) *claim {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &claim{account: a, bytes: n, overhead: overhead, ready: make(chan struct{})}
	if a.interrupted {
		close(c.ready)
		return c
	}
	a.claim = c
	b.wait++
	if a.fits(n, overhead) {
		c.place = b.queue.PushBack(c)
	}
	b.grant()
	select {
	case b.pressed <- struct{}{}:
	default:
	}
	return c
}

// withdraw takes a claim back, or what it was granted.
func (a *Account) withdraw(c *claim) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case c.granted:
		a.unbook(c.bytes, c.overhead)
	case a.claim == c:
		b.forget(c)
		b.grant()
	} // else it was interrupted
}

// refund returns n bytes.
func (a *Account) refund(n int, overhead bool) {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.unbook(int64(n), overhead)
}

// The rest is called with budget.mu held.

// fits reports whether the share has room for n bytes more.
func (a *Account) fits(n int64, overhead bool) bool {
	counts := a.held - a.overhead
	return overhead || counts == 0 || counts+n <= a.share
}

func (b *Budget) fits(a *Account, n int64) bool {
	return b.used == 0 || b.used+b.above(a.held+n)-b.above(a.held) <= b.limit
}

// above returns how much of what an account holds counts against the limit.
func (b *Budget) above(held int64) int64 { return max(0, held-b.floor) }

// book notes that a holds n bytes more, or less.
func (a *Account) book(n int64, overhead bool) {
	b := a.budget
	b.used += b.above(a.held+n) - b.above(a.held)
	a.held += n
	if overhead {
		a.overhead += n
	}
	b.peak = max(b.peak, b.used)
}

// unbook returns n bytes and lets those go on who waited for them.
func (a *Account) unbook(n int64, overhead bool) {
	b := a.budget
	a.book(-n, overhead)
	if c := a.claim; c != nil {
		switch {
		case a.held+c.bytes <= b.floor:
			b.serve(c)
		case c.place == nil && a.fits(c.bytes, c.overhead):
			c.place = b.queue.PushBack(c)
		}
	}
	b.grant()
}

// grant serves the queue from its head for as long as there is room.
func (b *Budget) grant() {
	for head := b.queue.Front(); head != nil; head = b.queue.Front() {
		c := head.Value.(*claim)
		if !b.fits(c.account, c.bytes) {
			return
		}
		b.serve(c)
	}
}

// serve gives a claim what it waits for.
func (b *Budget) serve(c *claim) {
	b.forget(c)
	c.account.book(c.bytes, c.overhead)
	c.granted = true
	close(c.ready)
}

// forget ends a claim.
func (b *Budget) forget(c *claim) {
	if c.place != nil {
		b.queue.Remove(c.place)
	}
	c.account.claim = nil
	b.wait--
}
