package body

import (
	"container/list"
	"errors"
	"sync"
	"time"
)

// ReclaimInterval is the interval at which an Acquire that waits for memory calls
// Account.Reclaim.
const ReclaimInterval = time.Millisecond

// ErrStopped is the error of an Acquire that ended without memory, because its stop channel
// was closed or its account was interrupted.
var ErrStopped = errors.New("stopped waiting for memory")

// Budget limits the total size of the buffers acquired from it. An Acquire that finds no room
// waits; waiters are served in first-come, first-served order. All methods of a Budget and of
// its accounts can be called concurrently.
type Budget struct {
	// Static after construction.
	limit     int64
	reserve   int64
	contended chan struct{} // capacity 1

	mu      sync.Mutex
	used    int64
	peak    int64
	waiting int       // number of waiters, for room in the budget or in a quota, and of demands
	queue   list.List // of *waiter: those that wait for room in the budget
}

// Account is the part of a budget that one holder uses: the bytes it holds and its quota. An
// account lives on after its holder is gone, until all buffers charged to the account are
// released.
//
// A part of the held bytes is overhead: memory that only the holder itself can free, by making
// progress. Overhead counts against the limit of the budget and not against the quota;
// otherwise the holder would wait for itself. The caller must bound the overhead by other
// means.
type Account struct {
	// Static after construction.
	budget *Budget
	quota  int64

	// Reclaim is called by Acquire, in the goroutine of its caller, once per ReclaimInterval of
	// waiting. It releases memory that the holder can do without, of any account, if that lets a
	// waiter continue. nil: there is nothing to release. The goroutine that calls Acquire owns
	// this field.
	Reclaim func()

	// Guarded by budget.mu.
	held        int64
	overhead    int64   // part of held
	waiter      *waiter // at most one at a time; nil: the holder does not wait
	interrupted bool    // Acquire does not wait any more
	demanding   bool    // see SetDemand
}

// waiter is one Acquire that waits. Guarded by budget.mu until ready is closed.
type waiter struct {
	account  *Account
	bytes    int64
	overhead bool
	granted  bool          // the bytes are charged
	ready    chan struct{} // closed when the bytes are granted or the account is interrupted
	element  *list.Element // in budget.queue; nil while the waiter waits for its quota
}

// NewBudget returns a budget of limit bytes. Each account can hold reserve bytes beyond the
// limit. An Acquire within the reserve never waits, which gives small holders their memory
// regardless of what other accounts hold.
func NewBudget(limit, reserve int64) *Budget {
	return &Budget{limit: limit, reserve: reserve, contended: make(chan struct{}, 1)}
}

// NewAccount opens an account with the given quota: the maximum number of bytes that the
// account can hold, without overhead. An account that holds nothing but overhead can still
// acquire a single buffer larger than the quota, and a budget that is not used at all grants a
// single buffer larger than the limit: such a buffer must not wait for ever.
func (b *Budget) NewAccount(quota int64) *Account {
	return &Account{budget: b, quota: quota}
}

// Contended returns a channel that receives a value when an Acquire begins to wait, in the
// budget or in its own quota. One value can stand for several waiters.
func (b *Budget) Contended() <-chan struct{} { return b.contended }

// HasWaiters reports whether any Acquire waits, for room in the budget or in a quota.
func (b *Budget) HasWaiters() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting > 0
}

// HasQueuedWaiters reports whether any Acquire waits for room in the budget itself.
func (b *Budget) HasQueuedWaiters() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queue.Len() > 0
}

// Used returns the bytes of the budget that are in use now, and their peak so far. Bytes
// within the reserve of an account do not count.
func (b *Budget) Used() (now, peak int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.peak
}

// WaitsForQuota reports whether an Acquire of this account waits for room in its quota, or the
// account demands room: see SetDemand.
func (a *Account) WaitsForQuota() bool {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	return a.demanding || a.waiter != nil && a.waiter.element == nil
}

// SetDemand says whether the holder of the account needs what is charged to it to be released,
// without an Acquire that waits. Until SetDemand(false), the account counts as one that waits for
// room in its quota.
func (a *Account) SetDemand(on bool) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.demanding == on {
		return
	}
	a.demanding = on
	if !on {
		b.waiting--
		return
	}
	b.waiting++
	select {
	case b.contended <- struct{}{}:
	default:
	}
}

// InUse reports whether the account holds bytes, or an Acquire of it waits.
func (a *Account) InUse() bool {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	return a.held > 0 || a.waiter != nil
}

// Held returns the bytes that are charged to the account.
func (a *Account) Held() int64 {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	return a.held
}

// TryAcquire returns a buffer of at least n bytes, or nil if Acquire would have to wait. A nil
// Account always has room, and is not charged.
func (a *Account) TryAcquire(n int) *Buffer {
	if a == nil {
		return Get(n)
	}
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

// Acquire returns a buffer of at least n bytes. It waits until there is room in the quota of
// the account and then in the budget. It returns ErrStopped if stop is closed before, or if
// Interrupt is called. At most one goroutine at a time can wait in Acquire or AcquireOverhead
// of one account.
func (a *Account) Acquire(n int, stop <-chan struct{}) (*Buffer, error) {
	return a.acquire(n, false, stop)
}

// AcquireOverhead is Acquire for overhead: it waits for room in the budget only.
func (a *Account) AcquireOverhead(n int, stop <-chan struct{}) (*Buffer, error) {
	return a.acquire(n, true, stop)
}

// Interrupt ends the current wait and all later waits of this account with ErrStopped. An
// Acquire that does not have to wait still succeeds.
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

// ForceAcquire returns a buffer of at least n bytes without waiting, beyond the limits if
// necessary. It is for callers that must not wait and whose use is bounded by other means.
func (a *Account) ForceAcquire(n int) *Buffer { return a.forceAcquire(n, false) }

// ForceAcquireOverhead is ForceAcquire for overhead.
func (a *Account) ForceAcquireOverhead(n int) *Buffer { return a.forceAcquire(n, true) }

func (a *Account) forceAcquire(n int, overhead bool) *Buffer {
	a.budget.mu.Lock()
	a.charge(int64(Capacity(n)), overhead)
	a.budget.mu.Unlock()
	return a.newChargedBuffer(n, overhead)
}

// newChargedBuffer returns a buffer whose bytes are already charged to the account.
func (a *Account) newChargedBuffer(n int, overhead bool) *Buffer {
	buffer := Get(n)
	buffer.account, buffer.overhead = a, overhead
	return buffer
}

// tryCharge charges n bytes if that is possible without waiting.
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

// addWaiter registers a waiter for n bytes. The bytes can be granted at once.
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

// cancel removes a waiter, or refunds the bytes that the waiter was granted.
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
	} // otherwise the waiter was interrupted
}

// release refunds n bytes.
func (a *Account) release(n int, overhead bool) {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.refund(int64(n), overhead)
}

// The following are called with budget.mu held.

// fits reports whether the quota has room for n more bytes.
func (a *Account) fits(n int64, overhead bool) bool {
	charged := a.held - a.overhead
	return overhead || charged == 0 || charged+n <= a.quota
}

func (b *Budget) fits(a *Account, n int64) bool {
	return b.used == 0 || b.used+b.aboveReserve(a.held+n)-b.aboveReserve(a.held) <= b.limit
}

// aboveReserve returns how many of the held bytes of an account count against the limit.
func (b *Budget) aboveReserve(held int64) int64 { return max(0, held-b.reserve) }

// charge adds n bytes, which can be negative, to the held bytes of a.
func (a *Account) charge(n int64, overhead bool) {
	b := a.budget
	b.used += b.aboveReserve(a.held+n) - b.aboveReserve(a.held)
	a.held += n
	if overhead {
		a.overhead += n
	}
	b.peak = max(b.peak, b.used)
}

// refund returns n bytes and serves the waiters that now have room.
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

// grant serves the queue from its head as long as there is room.
func (b *Budget) grant() {
	for head := b.queue.Front(); head != nil; head = b.queue.Front() {
		w := head.Value.(*waiter)
		if !b.fits(w.account, w.bytes) {
			return
		}
		b.serve(w)
	}
}

// serve charges the bytes that a waiter waits for and wakes the waiter.
func (b *Budget) serve(w *waiter) {
	b.removeWaiter(w)
	w.account.charge(w.bytes, w.overhead)
	w.granted = true
	close(w.ready)
}

// removeWaiter removes a waiter from its account and from the queue.
func (b *Budget) removeWaiter(w *waiter) {
	if w.element != nil {
		b.queue.Remove(w.element)
	}
	w.account.waiter = nil
	b.waiting--
}
