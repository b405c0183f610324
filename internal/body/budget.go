package body

import (
	"container/list"
	"errors"
	"sync"
	"time"
)

// ReclaimInterval is how long a holder waits for memory before it is to give up what it can do
// without, each time: see Account.Reclaim.
const ReclaimInterval = time.Millisecond

// ErrStopped is what Draw returns when its caller was stopped, or its account interrupted, before
// there was room.
var ErrStopped = errors.New("stopped waiting for memory")

// Budget bounds the bytes of all buffers that are drawn from it. A drawer that
// finds no room waits its turn: first come, first served. All its methods, and
// those of its accounts, may be called concurrently.
type Budget struct {
	// Static after construction.
	limit     int64
	reserve   int64
	contended chan struct{} // capacity 1

	mu      sync.Mutex
	used    int64
	peak    int64
	waiting int       // how many claims there are
	queue   list.List // of *claim: those who wait for room in the budget
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
	quota  int64

	// Reclaim is called by Draw for each Patience that it has waited: it gives up what the holder can
	// do without, if that helps anybody who waits, whoever is charged for it. nil: there is nothing. It belongs to the
	// one who calls Draw.
	Reclaim func()

	// Guarded by budget.mu.
	held        int64
	overhead    int64   // part of held
	waiter      *waiter // waits; at most one at a time
	interrupted bool    // nothing is waited for any more
}

// waiter is somebody who waits. Guarded by budget.mu until ready is closed.
type waiter struct {
	account  *Account
	bytes    int64
	overhead bool
	granted  bool          // the bytes are charged
	ready    chan struct{} // closed when they are, or the account is interrupted
	element  *list.Element // in budget.queue; nil while it waits for its share
}

// NewBudget returns a budget of limit bytes, and floor bytes beyond that for each account: for those
// nobody waits, so that whoever needs little has it whatever the others hold.
func NewBudget(limit, reserve int64) *Budget {
	return &Budget{limit: limit, reserve: reserve, contended: make(chan struct{}, 1)}
}

// NewAccount opens an account that may hold at most share bytes of the budget, and overhead. A
// single buffer larger than the share, or than the whole budget, is still given
// to one who holds nothing but overhead (while nobody holds anything): it must not wait for
// ever.
func (b *Budget) NewAccount(quota int64) *Account {
	return &Account{budget: b, quota: quota}
}

// Contended receives a value when somebody begins to wait, in the budget or in
// its own share. One value may stand for several.
func (b *Budget) Contended() <-chan struct{} { return b.contended }

// HasWaiters reports whether somebody waits, for room in the budget or in a share.
func (b *Budget) HasWaiters() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting > 0
}

// HasQueuedWaiters reports whether anybody waits for room in the budget itself.
func (b *Budget) HasQueuedWaiters() bool {
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

// WaitsForQuota reports whether the account's holder waits for room in its share.
func (a *Account) WaitsForQuota() bool {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	return a.waiter != nil && a.waiter.element == nil
}

// TryAcquire returns a buffer of at least n bytes, or nil when it would have to
// wait for it.
func (a *Account) TryAcquire(n int) *Buffer {
	return a.tryAcquire(n, false)
}

// TryAcquireOverhead is TryAcquire for overhead.
func (a *Account) TryAcquireOverhead(n int) *Buffer { return a.tryAcquire(n, true) }

func (a *Account) tryAcquire(n int, overhead bool) *Buffer {
	if !a.tryCharge(int64(Capacity(n)), overhead) {
		return nil
	}
	return a.newChargedBuffer(n, overhead)
}

// Acquire returns a buffer of at least n bytes. It waits until there is room for it
// in the account's share and then in the budget, and returns ErrStopped when
// stop is closed before, or Interrupt called. Only one goroutine at a time may draw from an account
// in this way.
func (a *Account) Acquire(n int, stop <-chan struct{}) (*Buffer, error) {
	return a.acquire(n, false, stop)
}

// AcquireOverhead is Draw for overhead: it waits for room in the budget alone.
func (a *Account) AcquireOverhead(n int, stop <-chan struct{}) (*Buffer, error) {
	return a.acquire(n, true, stop)
}

// Interrupt ends the wait of the account's holder, and each that would follow, with ErrStopped. What
// nobody has to wait for can still be drawn.
func (a *Account) Interrupt() {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	a.interrupted = true
	if w := a.waiter; w != nil {
		b.removeWaiter(w)
		close(w.ready)
		b.grant()
	}
}

func (a *Account) acquire(n int, overhead bool, stop <-chan struct{}) (*Buffer, error) {
	size := int64(Capacity(n))
	if a.tryCharge(size, overhead) {
		return a.newChargedBuffer(n, overhead), nil
	}
	w := a.addWaiter(size, overhead)
	var ticks <-chan time.Time
	if a.Reclaim != nil {
		t := time.NewTicker(ReclaimInterval)
		defer t.Stop()
		ticks = t.C
	}
	for {
		select {
		case <-w.ready:
			if !w.granted {
				return nil, ErrStopped
			}
			return a.newChargedBuffer(n, overhead), nil
		case <-stop:
			a.cancel(w)
			return nil, ErrStopped
		case <-ticks:
			a.Reclaim()
		}
	}
}

// ForceAcquire returns a buffer of at least n bytes without waiting, beyond the limits if it
// must be. It is for what cannot wait and is bounded by something else.
func (a *Account) ForceAcquire(n int) *Buffer { return a.forceAcquire(n, false) }

// ForceAcquireOverhead is Force for overhead.
func (a *Account) ForceAcquireOverhead(n int) *Buffer { return a.forceAcquire(n, true) }

func (a *Account) forceAcquire(n int, overhead bool) *Buffer {
	a.budget.mu.Lock()
	a.charge(int64(Capacity(n)), overhead)
	a.budget.mu.Unlock()
	return a.newChargedBuffer(n, overhead)
}

// newChargedBuffer hands out a buffer that is already charged.
func (a *Account) newChargedBuffer(n int, overhead bool) *Buffer {
	buffer := Get(n)
	buffer.account, buffer.overhead = a, overhead
	return buffer
}

// tryCharge books n bytes if nobody has to wait for it.
func (a *Account) tryCharge(n int64, overhead bool) bool {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.held+n > b.reserve && (b.queue.Len() > 0 || !a.fits(n, overhead) || !b.fits(a, n)) {
		return false
	}
	a.charge(n, overhead)
	return true
}

// addWaiter registers a claim for n bytes, which may be granted at once.
func (a *Account) addWaiter(n int64, overhead bool) *waiter {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &waiter{account: a, bytes: n, overhead: overhead, ready: make(chan struct{})}
	if a.interrupted {
		close(w.ready)
		return w
	}
	a.waiter = w
	b.waiting++
	if a.fits(n, overhead) {
		w.element = b.queue.PushBack(w)
	}
	b.grant()
	select {
	case b.contended <- struct{}{}:
	default:
	}
	return w
}

// cancel takes a claim back, or what it was granted.
func (a *Account) cancel(w *waiter) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case w.granted:
		a.refund(w.bytes, w.overhead)
	case a.waiter == w:
		b.removeWaiter(w)
		b.grant()
	} // else it was interrupted
}

// release returns n bytes.
func (a *Account) release(n int, overhead bool) {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.refund(int64(n), overhead)
}

// The rest is called with budget.mu held.

// fits reports whether the share has room for n bytes more.
func (a *Account) fits(n int64, overhead bool) bool {
	charged := a.held - a.overhead
	return overhead || charged == 0 || charged+n <= a.quota
}

func (b *Budget) fits(a *Account, n int64) bool {
	return b.used == 0 || b.used+b.aboveReserve(a.held+n)-b.aboveReserve(a.held) <= b.limit
}

// aboveReserve returns how much of what an account holds counts against the limit.
func (b *Budget) aboveReserve(held int64) int64 { return max(0, held-b.reserve) }

// charge notes that a holds n bytes more, or less.
func (a *Account) charge(n int64, overhead bool) {
	b := a.budget
	b.used += b.aboveReserve(a.held+n) - b.aboveReserve(a.held)
	a.held += n
	if overhead {
		a.overhead += n
	}
	b.peak = max(b.peak, b.used)
}

// refund returns n bytes and lets those go on who waited for them.
func (a *Account) refund(n int64, overhead bool) {
	b := a.budget
	a.charge(-n, overhead)
	if w := a.waiter; w != nil {
		switch {
		case a.held+w.bytes <= b.reserve:
			b.serve(w)
		case w.element == nil && a.fits(w.bytes, w.overhead):
			w.element = b.queue.PushBack(w)
		}
	}
	b.grant()
}

// grant serves the queue from its head for as long as there is room.
func (b *Budget) grant() {
	for head := b.queue.Front(); head != nil; head = b.queue.Front() {
		w := head.Value.(*waiter)
		if !b.fits(w.account, w.bytes) {
			return
		}
		b.serve(w)
	}
}

// serve gives a claim what it waits for.
func (b *Budget) serve(w *waiter) {
	b.removeWaiter(w)
	w.account.charge(w.bytes, w.overhead)
	w.granted = true
	close(w.ready)
}

// removeWaiter ends a claim.
func (b *Budget) removeWaiter(w *waiter) {
	if w.element != nil {
		b.queue.Remove(w.element)
	}
	w.account.waiter = nil
	b.waiting--
}
