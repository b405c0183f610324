package body

import (
	"fmt"
	"sync"
	"testing"
)

func TestCapacity(t *testing.T) {
	const (
		smallest = 512
		largest  = 2 << 20 // above it, buffers have exactly the requested size
	)
	sizes := map[int]bool{}
	for n := range 3<<20 + 1 {
		got := Capacity(n)
		switch {
		case n <= smallest && got != smallest:
			t.Fatalf("Capacity(%d) = %d, want %d", n, got, smallest)
		case n > largest && got != n:
			t.Fatalf("Capacity(%d) = %d, want it exact", n, got)
		case got < n:
			t.Fatalf("Capacity(%d) = %d, too small", n, got)
		case n > smallest && 4*got > 5*n:
			t.Fatalf("Capacity(%d) = %d, more than a quarter is wasted", n, got)
		case got < Capacity(max(n-1, 0)):
			t.Fatalf("Capacity(%d) = %d, less than for one byte less", n, got)
		case Capacity(got) != got:
			t.Fatalf("Capacity(%d) = %d, but that of %d is %d", n, got, got, Capacity(got))
		}
		if n <= largest {
			sizes[got] = true
		}
	}
	if len(sizes) != numClasses {
		t.Errorf("%d sizes are in use, there are %d classes", len(sizes), numClasses)
	}
}

func TestGet_LengthEqualsCapacity(t *testing.T) {
	for class := range numClasses {
		size := classSize(class)
		for _, n := range []int{size - 1, size, size + 1} {
			b := Get(n)
			if got := len(b.Bytes()); got != Capacity(n) {
				t.Errorf("Get(%d) has %d bytes, Capacity says %d", n, got, Capacity(n))
			}
			if b.Account() != nil {
				t.Errorf("Get(%d) is charged to an account", n)
			}
			b.Release()
		}
	}
	for _, n := range []int{0, 1, 3 << 20} {
		b := Get(n)
		if got := len(b.Bytes()); got != Capacity(n) {
			t.Errorf("Get(%d) has %d bytes, Capacity says %d", n, got, Capacity(n))
		}
		b.Release()
	}
}

func TestBuffer_Release_RefundsOnLast(t *testing.T) {
	for _, n := range []int{1, 512, 5000, 1 << 20, 3 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			budget := NewBudget(4<<20, 0)
			account := budget.NewAccount(4 << 20)
			b := account.TryAcquire(n)
			if b == nil || b.Account() != account {
				t.Fatalf("TryAcquire returned %v", b)
			}
			b.Retain()
			b.Retain()
			for range 2 {
				b.Release()
				if used, _ := budget.Used(); used != int64(Capacity(n)) {
					t.Fatalf("%d bytes are used while a reference is left, want %d", used, Capacity(n))
				}
			}
			b.Release()
			if used, peak := budget.Used(); used != 0 || peak != int64(Capacity(n)) {
				t.Errorf("used %d, peak %d after the last release, want 0 and %d", used, peak, Capacity(n))
			}
		})
	}
}

func TestBuffer_Release_PanicsBelowZero(t *testing.T) {
	b := newBuffer(1, unpooled) // not in a pool: no other test can get it
	b.Release()
	defer func() {
		if recover() == nil {
			t.Error("the second release of one reference did not panic")
		}
	}()
	b.Release()
}

func TestBuffer_ConcurrentReferences(t *testing.T) {
	budget := NewBudget(1<<20, 0)
	b := budget.NewAccount(1 << 20).TryAcquire(100)
	want := byte(42)
	b.Bytes()[99] = want
	var wg sync.WaitGroup
	for range 8 {
		for range 100 {
			b.Retain()
		}
		wg.Go(func() {
			for range 100 {
				if got := b.Bytes()[99]; got != want {
					t.Errorf("the byte is %d, want %d", got, want)
				}
				b.Retain()
				b.Release()
				b.Release()
			}
		})
	}
	b.Release()
	wg.Wait()
	if used, _ := budget.Used(); used != 0 {
		t.Errorf("%d bytes are used after the last release", used)
	}
}

func TestBuffer_ZeroAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items under the race detector")
	}
	account := NewBudget(4<<20, 0).NewAccount(4 << 20)
	for _, n := range []int{1, 512, 16 << 10, 64 << 10, 1 << 20} {
		if got := testing.AllocsPerRun(1000, func() { account.TryAcquire(n).Release() }); got != 0 {
			t.Errorf("acquiring %d bytes allocates %v times", n, got)
		}
		if got := testing.AllocsPerRun(1000, func() { Get(n).Release() }); got != 0 {
			t.Errorf("getting %d bytes allocates %v times", n, got)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{512, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Get(n).Release()
			}
		})
	}
}

func BenchmarkRetainRelease(b *testing.B) {
	buffer := Get(512)
	defer buffer.Release()
	b.ReportAllocs()
	for b.Loop() {
		buffer.Retain()
		buffer.Release()
	}
}
