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

// kib is a size that is a class of its own, so that a charge is what was asked.
const kib = 1 << 10

// drawer draws in a goroutine of its own, so that a test can look at it waiting.
type drawer struct {
	name   string
	stop   chan struct{}
	done   chan struct{}
	buffer *Buffer // set before done is closed
	err    error
}

// served is the order in which drawers got their memory. Of those that could go
// on at the same moment, either may come first.
type served struct {
	mu    sync.Mutex
	names []string
}

func (s *served) add(name string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = append(s.names, name)
}

// draw starts a drawer; order gets its name when it has its memory. It returns
// when the drawer either has that or waits.
func draw(a *Account, n int, name string, order *served) *drawer {
	return drawAs(a, n, false, name, order)
}

// drawAs is draw for overhead, if it says so.
func drawAs(a *Account, n int, overhead bool, name string, order *served) *drawer {
	d := &drawer{name: name, stop: make(chan struct{}), done: make(chan struct{})}
	draw := a.Draw
	if overhead {
		draw = a.DrawOverhead
	}
	go func() { // ends when it has its memory or is stopped
		defer close(d.done)
		d.buffer, d.err = draw(n, d.stop)
		if d.err == nil {
			order.add(d.name)
		}
	}()
	synctest.Wait()
	return d
}

func (d *drawer) waits() bool {
	select {
	case <-d.done:
		return false
	default:
		return true
	}
}

// give releases what the drawer got and lets everybody go on who can.
func (d *drawer) give() {
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

func TestTryDrawNeverGoesOverALimit(t *testing.T) {
	for _, test := range []struct {
		name         string
		limit, share int64
		draw         []int
		want         []bool
	}{
		{"budget", 4 * kib, 8 * kib, []int{kib, 2 * kib, 2 * kib, kib, 1}, []bool{true, true, false, true, false}},
		{"share", 8 * kib, 2 * kib, []int{kib, kib, 1}, []bool{true, true, false}},
		{"exactly full", 2 * kib, 2 * kib, []int{2 * kib, 1}, []bool{true, false}},
		{"charged by class", kib, kib, []int{513, 512}, []bool{true, false}},
		{"lone oversize for the budget", kib, 8 * kib, []int{4 * kib, 1}, []bool{true, false}},
		{"lone oversize for the share", 8 * kib, kib, []int{4 * kib, 1}, []bool{true, false}},
		{"oversize behind another", kib, 8 * kib, []int{1, 4 * kib}, []bool{true, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			budget := NewBudget(test.limit, 0)
			account := budget.Account(test.share)
			var all []*Buffer
			for i, n := range test.draw {
				b := account.TryDraw(n)
				if (b != nil) != test.want[i] {
					t.Errorf("drawing %d bytes as number %d: %v, want %v", n, i, b != nil, test.want[i])
				}
				if b != nil {
					all = append(all, b)
				}
			}
			for _, b := range all {
				b.Release()
			}
			wantUsed(t, budget, 0)
		})
	}
}

func TestOversizeIsGivenToOneWhoHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(2*kib, 0)
		small := draw(budget.Account(8*kib), kib, "small", nil)
		large := draw(budget.Account(8*kib), 4*kib, "large", nil)
		if !large.waits() {
			t.Fatal("a buffer above the limit was given while somebody held memory")
		}
		small.give()
		if large.waits() {
			t.Fatal("a buffer above the limit waits although nobody holds anything")
		}
		wantUsed(t, budget, 4*kib)
		next := draw(budget.Account(8*kib), 1, "next", nil)
		if !next.waits() {
			t.Fatal("memory was given beyond the limit")
		}
		large.give()
		next.give()
		wantUsed(t, budget, 0)
	})
}

func TestDrawersAreServedInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(4*kib, 0)
		var order served
		first := draw(budget.Account(8*kib), 4*kib, "first", &order)
		waiting := []*drawer{
			draw(budget.Account(8*kib), 4*kib, "large", &order),
			draw(budget.Account(8*kib), 512, "small", &order),
			draw(budget.Account(8*kib), kib, "last", &order),
		}
		if !budget.Waiting() {
			t.Error("three wait, and Waiting says nobody does")
		}
		if b := budget.Account(8 * kib).TryDraw(1); b != nil {
			t.Error("TryDraw overtook those who wait")
		}
		first.give()
		if want := []string{"first", "large"}; !slices.Equal(order.names, want) {
			t.Fatalf("served %v, want %v: the small one must not overtake", order.names, want)
		}
		waiting[0].give()
		if budget.Waiting() {
			t.Error("nobody waits any more, and Waiting says somebody does")
		}
		if waiting[1].waits() || waiting[2].waits() {
			t.Fatal("there is room for both that are left")
		}
		waiting[1].give()
		waiting[2].give()
		wantUsed(t, budget, 0)
	})
}

func TestShareWaitersDoNotBlockOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(16*kib, 0)
		greedy := budget.Account(2 * kib)
		held := draw(greedy, 2*kib, "held", nil)
		more := draw(greedy, kib, "more", nil)
		if !more.waits() || !greedy.Waiting() {
			t.Fatal("an account got more than its share")
		}
		if budget.Waiting() {
			t.Error("a holder that waits for its own share counts as waiting for the budget")
		}
		other := draw(budget.Account(16*kib), 14*kib, "other", nil)
		if other.waits() {
			t.Fatal("somebody who waits for his share blocks another")
		}
		late := draw(budget.Account(16*kib), kib, "late", nil)
		held.give()
		if more.waits() || greedy.Waiting() || late.waits() {
			t.Fatal("room in the share and in the budget did not let them go on")
		}
		more.give()
		late.give()
		other.give()
		wantUsed(t, budget, 0)
	})
}

func TestShareWaiterQueuesForTheBudgetWhenItsShareIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(4*kib, 0)
		var order served
		account := budget.Account(2 * kib)
		held := draw(account, 2*kib, "held", &order)
		other := draw(budget.Account(4*kib), 2*kib, "other", &order)
		share := draw(account, 2*kib, "share", &order)
		whole := draw(budget.Account(4*kib), 4*kib, "whole", &order)
		held.give() // frees the share: "share" is now behind "whole"
		if !share.waits() || !whole.waits() || account.Waiting() {
			t.Fatal("the one that waited for its share must now wait for the budget, behind the other")
		}
		other.give()
		whole.give()
		if want := []string{"held", "other", "whole", "share"}; !slices.Equal(order.names, want) {
			t.Errorf("served %v, want %v", order.names, want)
		}
		share.give()
		wantUsed(t, budget, 0)
	})
}

func TestStopWhileWaiting(t *testing.T) {
	for _, test := range []struct {
		name  string
		share int64
	}{
		{"for the budget", 8 * kib},
		{"for the share", 2 * kib},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				budget := NewBudget(2*kib, 0)
				account := budget.Account(test.share)
				held := draw(account, 2*kib, "held", nil)
				stopped := draw(account, 2*kib, "stopped", nil)
				behind := draw(budget.Account(8*kib), 512, "behind", nil)
				close(stopped.stop)
				synctest.Wait()
				if stopped.waits() || !errors.Is(stopped.err, ErrStopped) || stopped.buffer != nil {
					t.Fatalf("stopped: %v, %v", stopped.buffer, stopped.err)
				}
				wantUsed(t, budget, 2*kib)
				held.give()
				if behind.waits() {
					t.Fatal("the one behind the stopped one still waits")
				}
				behind.give()
				wantUsed(t, budget, 0)
				draw(account, 2*kib, "again", nil).give()
			})
		})
	}
}

// TestALittleIsThereForEverybody whatever the others hold, and also for one who waits for more of it.
func TestALittleIsThereForEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(4*kib, kib)
		hoarder := draw(budget.Account(8*kib), 4*kib, "hoarder", nil)
		full := draw(budget.Account(8*kib), 4*kib, "full", nil)
		if hoarder.waits() || !full.waits() {
			t.Fatal("the budget must be full")
		}
		account := budget.Account(8 * kib)
		first, second := draw(account, 512, "first", nil), draw(account, 512, "second", nil)
		third := draw(account, 512, "third", nil)
		if first.waits() || second.waits() || !third.waits() {
			t.Fatal("want two of three without a wait")
		}
		wantUsed(t, budget, 3*kib) // without the little
		first.give()
		if third.waits() {
			t.Error("waits behind the others for what it may hold")
		}
		if !budget.Anybody() {
			t.Error("somebody still waits")
		}
		second.give()
		third.give()
		hoarder.give()
		full.give()
		wantUsed(t, budget, 0)
		if budget.Anybody() {
			t.Error("nobody waits any more")
		}
	})
}

// TestAccount_OverheadIsNoneOfTheShare lets one draw its whole share, and a buffer above it, whatever overhead it holds; in the
// budget that counts.
func TestAccount_OverheadIsNoneOfTheShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(16*kib, 0)
		account := budget.Account(2 * kib)
		overhead := []*Buffer{account.ForceOverhead(2 * kib), account.TryDrawOverhead(2 * kib)}
		large := draw(account, 4*kib, "large", nil)
		if large.waits() {
			t.Fatal("one who holds nothing but overhead waits for its share")
		}
		small := draw(account, kib, "small", nil)
		if !small.waits() || !account.Waiting() {
			t.Fatal("an account got more than its share")
		}
		wantUsed(t, budget, 8*kib)
		large.give()
		if small.waits() {
			t.Error("waits for a share in which nothing is held")
		}
		small.give()
		for _, b := range overhead {
			b.Release()
		}
		wantUsed(t, budget, 0)
	})
}

// TestAccount_Interrupt ends a wait for the share, one for the budget, and each to come, and lets in who stands behind.
func TestAccount_Interrupt(t *testing.T) {
	for name, share := range map[string]int64{"for the budget": 8 * kib, "for the share": 2 * kib} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				budget := NewBudget(3*kib, 0)
				account := budget.Account(share)
				held := draw(account, 2*kib, "held", nil)
				waiting := draw(account, 2*kib, "waiting", nil)
				behind := draw(budget.Account(8*kib), kib, "behind", nil)
				account.Interrupt()
				synctest.Wait()
				if waiting.waits() || !errors.Is(waiting.err, ErrStopped) || behind.waits() || budget.Anybody() {
					t.Errorf("waits: %v, %v; who stands behind waits: %v", waiting.waits(), waiting.err, behind.waits())
				}
				again := draw(account, 2*kib, "again", nil)
				if again.waits() || !errors.Is(again.err, ErrStopped) {
					t.Errorf("waits again: %v, %v", again.waits(), again.err)
				}
				held.give()
				behind.give()
				draw(account, kib, "there", nil).give() // for which nobody has to wait
				wantUsed(t, budget, 0)
			})
		})
	}
}

func TestWhoWaitsLongYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(2*kib, 0)
		kept := draw(budget.Account(8*kib), 2*kib, "kept", nil)
		account := budget.Account(8 * kib)
		var yielded atomic.Int32
		account.Yield = func() {
			yielded.Add(1)
			kept.buffer.Release()
		}
		patient := draw(account, kib, "patient", nil)
		time.Sleep(Patience - 1)
		synctest.Wait()
		if yielded.Load() > 0 || !patient.waits() {
			t.Error("yielded before it had been patient")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if yielded.Load() != 1 || patient.waits() {
			t.Errorf("yielded %d times, waits: %v", yielded.Load(), patient.waits())
		}
		patient.give()
		draw(account, kib, "free", nil).give()
		if yielded.Load() != 1 {
			t.Error("yielded without waiting")
		}
		wantUsed(t, budget, 0)
	})
}

func TestStoppingTheFirstLetsTheNextGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(2*kib, 0)
		held := draw(budget.Account(8*kib), kib, "held", nil)
		large := draw(budget.Account(8*kib), 2*kib, "large", nil)
		small := draw(budget.Account(8*kib), 512, "small", nil)
		if !large.waits() || !small.waits() {
			t.Fatal("both must wait: the first for room, the second for its turn")
		}
		close(large.stop)
		synctest.Wait()
		if small.waits() {
			t.Fatal("there is room for the second, and nobody before it")
		}
		small.give()
		held.give()
		wantUsed(t, budget, 0)
	})
}

func TestAGrantThatRacesWithStopLeaksNothing(t *testing.T) {
	budget := NewBudget(kib, 0)
	holder, other := budget.Account(kib), budget.Account(kib)
	for _, account := range []*Account{holder, other} { // one waits for its share, one for the budget
		for range 2000 {
			held := holder.TryDraw(kib)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				if b, err := account.Draw(kib, stop); err == nil {
					b.Release()
				}
			})
			wg.Go(held.Release)
			close(stop)
			wg.Wait()
			if got := used(budget); got != 0 {
				t.Fatalf("%d bytes are used after all ended", got)
			}
			if budget.Waiting() || account.Waiting() {
				t.Fatal("somebody is left in a queue")
			}
		}
	}
}

// TestAGrantThatComesBehindTheStop grants a claim when its owner is already on the
// way to take it back.
func TestAGrantThatComesBehindTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(kib, 0)
		for range 500 {
			held := draw(budget.Account(kib), kib, "held", nil)
			stopped := draw(budget.Account(kib), kib, "stopped", nil)
			close(stopped.stop)
			held.buffer.Release()
			<-stopped.done
			if stopped.err == nil {
				stopped.give()
			}
			if got := used(budget); got != 0 {
				t.Fatalf("%d bytes are used after all ended", got)
			}
		}
	})
}

func TestPressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(2*kib, 0)
		pressed := func() bool {
			select {
			case <-budget.Pressed():
				return true
			default:
				return false
			}
		}
		account := budget.Account(kib)
		held := draw(account, kib, "held", nil)
		if account.TryDraw(kib) != nil || pressed() {
			t.Error("pressed although nobody waits")
		}
		share := draw(account, kib, "share", nil)
		if !pressed() {
			t.Error("not pressed by one who waits for his share")
		}
		whole := draw(budget.Account(8*kib), 2*kib, "whole", nil)
		third := draw(budget.Account(8*kib), 2*kib, "third", nil)
		if !pressed() || pressed() {
			t.Error("two who wait for the budget must leave one value")
		}
		for _, d := range []*drawer{held, share, whole, third} {
			if d.waits() {
				close(d.stop)
				<-d.done
			}
			if d.err == nil {
				d.give()
			}
		}
		wantUsed(t, budget, 0)
	})
}

// TestManyDrawers lets goroutines draw, hold and give back at random, stopped now
// and then, and looks whether any two ever hold the same memory or all of them
// too much.
func TestManyDrawers(t *testing.T) {
	const limit, share, drawers, turns = 64 * kib, 24 * kib, 8, 500
	budget := NewBudget(limit, 0)
	var wg sync.WaitGroup
	for i := range drawers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			account := budget.Account(share)
			var held []*Buffer
			for range turns {
				if b := drawAtRandom(account, random, len(held) == 0); b != nil {
					b.Bytes()[0] = byte(i)
					held = append(held, b)
				}
				if now := used(budget); now > limit {
					t.Errorf("%d bytes are used, the limit is %d", now, limit)
				}
				for len(held) > 0 && random.IntN(2) == 0 {
					held = giveOne(t, held, byte(i))
				}
			}
			for len(held) > 0 {
				held = giveOne(t, held, byte(i))
			}
		})
	}
	wg.Wait()
	wantUsed(t, budget, 0)
	if _, peak := budget.Used(); peak > limit {
		t.Errorf("the peak is %d, the limit %d", peak, limit)
	}
}

// drawAtRandom waits for memory only when its caller holds none, as Draw's
// users must, or with a stop that is about to come.
func drawAtRandom(a *Account, random *rand.Rand, wait bool) *Buffer {
	n := 1 + random.IntN(16*kib)
	stop := make(chan struct{})
	switch {
	case random.IntN(3) == 0:
		return a.TryDraw(n)
	case !wait || random.IntN(3) == 0:
		close(stop)
	}
	b, _ := a.Draw(n, stop)
	return b
}

func giveOne(t *testing.T, held []*Buffer, mark byte) []*Buffer {
	last := held[len(held)-1]
	if got := last.Bytes()[0]; got != mark {
		t.Errorf("a buffer of %d holds the mark of %d", mark, got)
	}
	last.Release()
	return held[:len(held)-1]
}

func BenchmarkTryDraw(b *testing.B) {
	for _, n := range []int{512, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			account := NewBudget(256<<20, 0).Account(256 << 20)
			b.ReportAllocs()
			for b.Loop() {
				account.TryDraw(n).Release()
			}
		})
	}
}

func BenchmarkTryDrawParallel(b *testing.B) {
	budget := NewBudget(256<<20, 0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		account := budget.Account(32 << 20)
		for pb.Next() {
			account.TryDraw(16 << 10).Release()
		}
	})
}
