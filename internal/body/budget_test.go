package body

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// kib is exactly the size of a class: the charge equals the requested size.
const kib = 1 << 10

// acquirer is an Acquire in a goroutine of its own.
type acquirer struct {
	name   string
	stop   chan struct{}
	done   chan struct{}
	buffer *Buffer // set before done is closed
	err    error
}

// serveOrder records the order in which acquirers got their memory. Acquirers that are served
// at the same moment appear in any order.
type serveOrder struct {
	mu    sync.Mutex
	names []string
}

func (s *serveOrder) add(name string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = append(s.names, name)
}

// startAcquire starts an acquirer. order gets its name when it has its memory. startAcquire
// returns when the acquirer has its memory or waits.
func startAcquire(a *Account, n int, name string, order *serveOrder) *acquirer {
	return startAcquireAs(a, n, false, name, order)
}

// startAcquireAs is startAcquire, for overhead if overhead is set.
func startAcquireAs(a *Account, n int, overhead bool, name string, order *serveOrder) *acquirer {
	d := &acquirer{name: name, stop: make(chan struct{}), done: make(chan struct{})}
	acquire := a.Acquire
	if overhead {
		acquire = a.AcquireOverhead
	}
	go func() { // ends when it has its memory or is stopped
		defer close(d.done)
		d.buffer, d.err = acquire(n, d.stop)
		if d.err == nil {
			order.add(d.name)
		}
	}()
	synctest.Wait()
	return d
}

func (d *acquirer) isWaiting() bool {
	select {
	case <-d.done:
		return false
	default:
		return true
	}
}

// release releases the buffer of d and waits until the waiters with room have continued.
func (d *acquirer) release() {
	d.buffer.Release()
	synctest.Wait()
}

func used(b *Budget) int64 {
	now, _ := b.Used()
	return now
}

func wantUsed(t *testing.T, b *Budget, want int64) {
	t.Helper()
	if got := used(b); got != want {
		t.Errorf("%d bytes are used, want %d", got, want)
	}
}

func TestAccount_TryAcquire_Limits(t *testing.T) {
	for _, test := range []struct {
		name         string
		limit, share int64
		draw         []int
		want         []bool
	}{
		{"budget", 4 * kib, 8 * kib, []int{kib, 2 * kib, 2 * kib, kib, 1}, []bool{true, true, false, true, false}},
		{"quota", 8 * kib, 2 * kib, []int{kib, kib, 1}, []bool{true, true, false}},
		{"exactly full", 2 * kib, 2 * kib, []int{2 * kib, 1}, []bool{true, false}},
		{"charged by class", kib, kib, []int{513, 512}, []bool{true, false}},
		{"lone oversize for the budget", kib, 8 * kib, []int{4 * kib, 1}, []bool{true, false}},
		{"lone oversize for the quota", 8 * kib, kib, []int{4 * kib, 1}, []bool{true, false}},
		{"oversize behind another", kib, 8 * kib, []int{1, 4 * kib}, []bool{true, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			budget := NewBudget(test.limit, 0)
			account := budget.NewAccount(test.share)
			var buffers []*Buffer
			for i, n := range test.draw {
				b := account.TryAcquire(n)
				if (b != nil) != test.want[i] {
					t.Errorf("acquiring %d bytes as number %d: %v, want %v", n, i, b != nil, test.want[i])
				}
				if b != nil {
					buffers = append(buffers, b)
				}
			}
			for _, b := range buffers {
				b.Release()
			}
			wantUsed(t, budget, 0)
		})
	}
}

func TestAccount_Acquire_OversizeWhenNothingHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(2*kib, 0)
		small := startAcquire(budget.NewAccount(8*kib), kib, "small", nil)
		large := startAcquire(budget.NewAccount(8*kib), 4*kib, "large", nil)
		if !large.isWaiting() {
			t.Fatal("a buffer above the limit was granted while other memory was held")
		}
		small.release()
		if large.isWaiting() {
			t.Fatal("a buffer above the limit waits although no memory is held")
		}
		wantUsed(t, budget, 4*kib)
		next := startAcquire(budget.NewAccount(8*kib), 1, "next", nil)
		if !next.isWaiting() {
			t.Fatal("memory was granted beyond the limit")
		}
		large.release()
		next.release()
		wantUsed(t, budget, 0)
	})
}

func TestBudget_ServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(4*kib, 0)
		var order serveOrder
		first := startAcquire(budget.NewAccount(8*kib), 4*kib, "first", &order)
		waiting := []*acquirer{
			startAcquire(budget.NewAccount(8*kib), 4*kib, "large", &order),
			startAcquire(budget.NewAccount(8*kib), 512, "small", &order),
			startAcquire(budget.NewAccount(8*kib), kib, "last", &order),
		}
		if !budget.HasQueuedWaiters() {
			t.Error("HasQueuedWaiters is false with three waiters")
		}
		if b := budget.NewAccount(8 * kib).TryAcquire(1); b != nil {
			t.Error("TryAcquire overtook the waiters")
		}
		first.release()
		if want := []string{"first", "large"}; !slices.Equal(order.names, want) {
			t.Fatalf("served %v, want %v: the small waiter must not overtake", order.names, want)
		}
		waiting[0].release()
		if budget.HasQueuedWaiters() {
			t.Error("HasQueuedWaiters is true without waiters")
		}
		if waiting[1].isWaiting() || waiting[2].isWaiting() {
			t.Fatal("a waiter waits although there is room for both")
		}
		waiting[1].release()
		waiting[2].release()
		wantUsed(t, budget, 0)
	})
}

func TestBudget_QuotaWaiterDoesNotBlockOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(16*kib, 0)
		limited := budget.NewAccount(2 * kib)
		held := startAcquire(limited, 2*kib, "held", nil)
		more := startAcquire(limited, kib, "more", nil)
		if !more.isWaiting() || !limited.WaitsForQuota() {
			t.Fatal("an account got more than its quota")
		}
		if budget.HasQueuedWaiters() {
			t.Error("a waiter for its own quota counts as a waiter for the budget")
		}
		other := startAcquire(budget.NewAccount(16*kib), 14*kib, "other", nil)
		if other.isWaiting() {
			t.Fatal("a waiter for its own quota blocks another account")
		}
		last := startAcquire(budget.NewAccount(16*kib), kib, "late", nil)
		held.release()
		if more.isWaiting() || limited.WaitsForQuota() || last.isWaiting() {
			t.Fatal("a waiter waits although there is room in the quota and in the budget")
		}
		more.release()
		last.release()
		other.release()
		wantUsed(t, budget, 0)
	})
}

func TestBudget_QuotaWaiterQueuesWhenQuotaIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(4*kib, 0)
		var order serveOrder
		account := budget.NewAccount(2 * kib)
		held := startAcquire(account, 2*kib, "held", &order)
		other := startAcquire(budget.NewAccount(4*kib), 2*kib, "other", &order)
		quota := startAcquire(account, 2*kib, "quota", &order)
		whole := startAcquire(budget.NewAccount(4*kib), 4*kib, "whole", &order)
		held.release() // frees quota: "quota" is now behind "whole"
		if !quota.isWaiting() || !whole.isWaiting() || account.WaitsForQuota() {
			t.Fatal("the waiter for the quota must now wait for the budget, behind the other waiter")
		}
		other.release()
		whole.release()
		if want := []string{"held", "other", "whole", "quota"}; !slices.Equal(order.names, want) {
			t.Errorf("served %v, want %v", order.names, want)
		}
		quota.release()
		wantUsed(t, budget, 0)
	})
}

func TestAccount_Acquire_Stopped(t *testing.T) {
	for _, test := range []struct {
		name  string
		share int64
	}{
		{"for the budget", 8 * kib},
		{"for the quota", 2 * kib},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				budget := NewBudget(2*kib, 0)
				account := budget.NewAccount(test.share)
				held := startAcquire(account, 2*kib, "held", nil)
				stopped := startAcquire(account, 2*kib, "stopped", nil)
				behind := startAcquire(budget.NewAccount(8*kib), 512, "behind", nil)
				close(stopped.stop)
				synctest.Wait()
				if stopped.isWaiting() || !errors.Is(stopped.err, ErrStopped) || stopped.buffer != nil {
					t.Fatalf("stopped: %v, %v", stopped.buffer, stopped.err)
				}
				wantUsed(t, budget, 2*kib)
				held.release()
				if behind.isWaiting() {
					t.Fatal("the waiter behind the stopped waiter still waits")
				}
				behind.release()
				wantUsed(t, budget, 0)
				startAcquire(account, 2*kib, "again", nil).release()
			})
		})
	}
}

// TestBudget_ReservePerAccount checks that an account gets its reserve while other accounts
// hold the whole budget, also when it already waits for more.
func TestBudget_ReservePerAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(4*kib, kib)
		large := startAcquire(budget.NewAccount(8*kib), 4*kib, "hoarder", nil)
		full := startAcquire(budget.NewAccount(8*kib), 4*kib, "full", nil)
		if large.isWaiting() || !full.isWaiting() {
			t.Fatal("the budget must be full")
		}
		account := budget.NewAccount(8 * kib)
		first, second := startAcquire(account, 512, "first", nil), startAcquire(account, 512, "second", nil)
		third := startAcquire(account, 512, "third", nil)
		if first.isWaiting() || second.isWaiting() || !third.isWaiting() {
			t.Fatal("want two of three without a wait")
		}
		wantUsed(t, budget, 3*kib) // without the reserves
		first.release()
		if third.isWaiting() {
			t.Error("an acquire within the reserve waits behind others")
		}
		if !budget.HasWaiters() {
			t.Error("HasWaiters is false with a waiter")
		}
		second.release()
		third.release()
		large.release()
		full.release()
		wantUsed(t, budget, 0)
		if budget.HasWaiters() {
			t.Error("HasWaiters is true without waiters")
		}
	})
}

// TestAccount_OverheadExcludedFromQuota checks that overhead takes no quota: an account with
// overhead can acquire a buffer above its quota. In the budget, overhead counts.
func TestAccount_OverheadExcludedFromQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(16*kib, 0)
		account := budget.NewAccount(2 * kib)
		overhead := []*Buffer{account.ForceAcquireOverhead(2 * kib), account.TryAcquireOverhead(2 * kib)}
		large := startAcquire(account, 4*kib, "large", nil)
		if large.isWaiting() {
			t.Fatal("an account that holds only overhead waits for its quota")
		}
		small := startAcquire(account, kib, "small", nil)
		if !small.isWaiting() || !account.WaitsForQuota() {
			t.Fatal("an account got more than its quota")
		}
		wantUsed(t, budget, 8*kib)
		large.release()
		if small.isWaiting() {
			t.Error("an account waits for its quota although it holds none")
		}
		small.release()
		for _, b := range overhead {
			b.Release()
		}
		wantUsed(t, budget, 0)
	})
}

// TestAccount_Interrupt checks that Interrupt ends a wait for the quota or for the budget and
// all later waits, and lets the next waiter continue.
func TestAccount_Interrupt(t *testing.T) {
	for name, share := range map[string]int64{"for the budget": 8 * kib, "for the quota": 2 * kib} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				budget := NewBudget(3*kib, 0)
				account := budget.NewAccount(share)
				held := startAcquire(account, 2*kib, "held", nil)
				waiting := startAcquire(account, 2*kib, "waiting", nil)
				behind := startAcquire(budget.NewAccount(8*kib), kib, "behind", nil)
				account.Interrupt()
				synctest.Wait()
				if waiting.isWaiting() || !errors.Is(waiting.err, ErrStopped) || behind.isWaiting() || budget.HasWaiters() {
					t.Errorf("waits: %v, %v; the next waiter waits: %v", waiting.isWaiting(), waiting.err, behind.isWaiting())
				}
				second := startAcquire(account, 2*kib, "again", nil)
				if second.isWaiting() || !errors.Is(second.err, ErrStopped) {
					t.Errorf("waits again: %v, %v", second.isWaiting(), second.err)
				}
				held.release()
				behind.release()
				startAcquire(account, kib, "there", nil).release() // needs no wait
				wantUsed(t, budget, 0)
			})
		})
	}
}

func TestAccount_Acquire_CallsReclaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(2*kib, 0)
		held := startAcquire(budget.NewAccount(8*kib), 2*kib, "kept", nil)
		account := budget.NewAccount(8 * kib)
		var reclaimed atomic.Int32
		account.Reclaim = func() {
			reclaimed.Add(1)
			held.buffer.Release()
		}
		waiting := startAcquire(account, kib, "patient", nil)
		time.Sleep(ReclaimInterval - 1)
		synctest.Wait()
		if reclaimed.Load() > 0 || !waiting.isWaiting() {
			t.Error("Reclaim was called before ReclaimInterval")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if reclaimed.Load() != 1 || waiting.isWaiting() {
			t.Errorf("Reclaim was called %d times, waits: %v", reclaimed.Load(), waiting.isWaiting())
		}
		waiting.release()
		startAcquire(account, kib, "free", nil).release()
		if reclaimed.Load() != 1 {
			t.Error("Reclaim was called without a wait")
		}
		wantUsed(t, budget, 0)
	})
}

// TestAccount_InUse_WhileHeldOrWaiting checks an account that holds bytes of each kind, waits for
// its quota, and waits for the budget.
func TestAccount_InUse_WhileHeldOrWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(2*kib, 0)
		account, other := budget.NewAccount(kib), budget.NewAccount(8*kib)
		expect := func(when string, want bool) {
			t.Helper()
			if got := account.InUse(); got != want {
				t.Errorf("%s: in use: %v", when, got)
			}
		}
		expect("at the beginning", false)
		held := account.TryAcquire(100)
		held.Retain()
		held.Release()
		expect("with a buffer", true)
		waiting := startAcquire(account, kib, "for its quota", nil)
		held.Release()
		<-waiting.done
		waiting.release()
		expect("after the last buffer", false)
		overhead := account.ForceAcquireOverhead(100)
		expect("with overhead", true)
		overhead.Release()
		all := startAcquire(other, 2*kib, "other", nil)
		expect("while another account holds everything", false)
		stopped := startAcquire(account, kib, "for the budget", nil)
		expect("while it waits", true)
		close(stopped.stop)
		synctest.Wait()
		expect("after a wait", false)
		all.release()
		wantUsed(t, budget, 0)
	})
}

func TestBudget_StoppedWaiterUnblocksNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(2*kib, 0)
		held := startAcquire(budget.NewAccount(8*kib), kib, "held", nil)
		large := startAcquire(budget.NewAccount(8*kib), 2*kib, "large", nil)
		small := startAcquire(budget.NewAccount(8*kib), 512, "small", nil)
		if !large.isWaiting() || !small.isWaiting() {
			t.Fatal("both must wait: the first for room, the second for its turn")
		}
		close(large.stop)
		synctest.Wait()
		if small.isWaiting() {
			t.Fatal("the second waits although there is room and no waiter before it")
		}
		small.release()
		held.release()
		wantUsed(t, budget, 0)
	})
}

func TestAccount_Acquire_GrantRacesWithStop(t *testing.T) {
	budget := NewBudget(kib, 0)
	holder, other := budget.NewAccount(kib), budget.NewAccount(kib)
	for _, account := range []*Account{holder, other} { // wait for quota, or for the budget
		for range 2000 {
			held := holder.TryAcquire(kib)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				if b, err := account.Acquire(kib, stop); err == nil {
					b.Release()
				}
			})
			wg.Go(held.Release)
			close(stop)
			wg.Wait()
			if got := used(budget); got != 0 {
				t.Fatalf("%d bytes are used at the end", got)
			}
			if budget.HasQueuedWaiters() || account.WaitsForQuota() {
				t.Fatal("a waiter is left in a queue")
			}
		}
	}
}

// TestAccount_Acquire_GrantAfterStop grants memory to a waiter that has just been stopped.
func TestAccount_Acquire_GrantAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(kib, 0)
		for range 500 {
			held := startAcquire(budget.NewAccount(kib), kib, "held", nil)
			stopped := startAcquire(budget.NewAccount(kib), kib, "stopped", nil)
			close(stopped.stop)
			held.buffer.Release()
			<-stopped.done
			if stopped.err == nil {
				stopped.release()
			}
			if got := used(budget); got != 0 {
				t.Fatalf("%d bytes are used at the end", got)
			}
		}
	})
}

func TestBudget_Contended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(2*kib, 0)
		contended := func() bool {
			select {
			case <-budget.Contended():
				return true
			default:
				return false
			}
		}
		account := budget.NewAccount(kib)
		held := startAcquire(account, kib, "held", nil)
		if account.TryAcquire(kib) != nil || contended() {
			t.Error("contended without a waiter")
		}
		quota := startAcquire(account, kib, "quota", nil)
		if !contended() {
			t.Error("not contended by a waiter for its quota")
		}
		whole := startAcquire(budget.NewAccount(8*kib), 2*kib, "whole", nil)
		third := startAcquire(budget.NewAccount(8*kib), 2*kib, "third", nil)
		if !contended() || contended() {
			t.Error("two waiters for the budget must leave one value")
		}
		for _, d := range []*acquirer{held, quota, whole, third} {
			if d.isWaiting() {
				close(d.stop)
				<-d.done
			}
			if d.err == nil {
				d.release()
			}
		}
		wantUsed(t, budget, 0)
	})
}

// TestBudget_ManyAcquirers lets goroutines acquire, hold and release buffers at random, and
// stops some acquires. No two goroutines can ever hold the same memory, and all together never
// hold more than the limit.
func TestBudget_ManyAcquirers(t *testing.T) {
	const limit, share, drawers, turns = 64 * kib, 24 * kib, 8, 500
	budget := NewBudget(limit, 0)
	var wg sync.WaitGroup
	for i := range drawers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			account := budget.NewAccount(share)
			var held []*Buffer
			for range turns {
				if b := acquireAtRandom(account, random, len(held) == 0); b != nil {
					b.Bytes()[0] = byte(i)
					held = append(held, b)
				}
				if now := used(budget); now > limit {
					t.Errorf("%d bytes are used, the limit is %d", now, limit)
				}
				for len(held) > 0 && random.IntN(2) == 0 {
					held = releaseLast(t, held, byte(i))
				}
			}
			for len(held) > 0 {
				held = releaseLast(t, held, byte(i))
			}
		})
	}
	wg.Wait()
	wantUsed(t, budget, 0)
	if _, peak := budget.Used(); peak > limit {
		t.Errorf("the peak is %d, the limit %d", peak, limit)
	}
}

// acquireAtRandom waits for memory only if its caller holds none, as callers of Acquire must
// do, or with a stop channel that is about to be closed.
func acquireAtRandom(a *Account, random *rand.Rand, mayWait bool) *Buffer {
	n := 1 + random.IntN(16*kib)
	stop := make(chan struct{})
	switch {
	case random.IntN(3) == 0:
		return a.TryAcquire(n)
	case !mayWait || random.IntN(3) == 0:
		close(stop)
	}
	b, _ := a.Acquire(n, stop)
	return b
}

func releaseLast(t *testing.T, held []*Buffer, mark byte) []*Buffer {
	last := held[len(held)-1]
	if got := last.Bytes()[0]; got != mark {
		t.Errorf("a buffer of %d holds the mark of %d", mark, got)
	}
	last.Release()
	return held[:len(held)-1]
}

func BenchmarkTryAcquire(b *testing.B) {
	for _, n := range []int{512, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			account := NewBudget(256<<20, 0).NewAccount(256 << 20)
			b.ReportAllocs()
			for b.Loop() {
				account.TryAcquire(n).Release()
			}
		})
	}
}

func BenchmarkTryAcquireParallel(b *testing.B) {
	budget := NewBudget(256<<20, 0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		account := budget.NewAccount(32 << 20)
		for pb.Next() {
			account.TryAcquire(16 << 10).Release()
		}
	})
}

func TestAccount_SetDemand(t *testing.T) {
	b := NewBudget(1000, 0)
	a := b.NewAccount(1000)
	for range 2 { // also if it is said again
		a.SetDemand(true)
	}
	select {
	case <-b.Contended():
	default:
		t.Error("a demand does not begin the reclaiming")
	}
	if !a.WaitsForQuota() || !b.HasWaiters() || b.HasQueuedWaiters() {
		t.Error("an account with a demand does not wait for its quota")
	}
	buffer := a.TryAcquire(100)
	if buffer == nil {
		t.Fatal("a demand keeps its own account from acquiring")
	}
	buffer.Release()
	for range 2 {
		a.SetDemand(false)
	}
	if a.WaitsForQuota() || b.HasWaiters() || a.InUse() {
		t.Error("a demand that has ended is left")
	}
}
