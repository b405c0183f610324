package hub

import (
	"sync"
	"testing"
)

func TestLatch_Set_WakesAllWaiters(t *testing.T) {
	var l latch
	if l.IsSet() {
		t.Error("set before Set was called")
	}
	before := l.Done()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { <-l.Done() })
	}
	if !l.Set() || l.Set() {
		t.Error("Set does not report which call is the first")
	}
	wg.Wait()
	<-before
	<-l.Done()
	if !l.IsSet() {
		t.Error("not set after Set")
	}
}

// TestLatch_ConcurrentSet_OneIsFirst calls Set from several goroutines while others begin to
// wait.
func TestLatch_ConcurrentSet_OneIsFirst(t *testing.T) {
	for range 1000 {
		var l latch
		var wg sync.WaitGroup
		first := make(chan bool, 4)
		for range 4 {
			wg.Go(func() { <-l.Done() })
			wg.Go(func() { first <- l.Set() })
		}
		wg.Wait()
		close(first)
		n := 0
		for f := range first {
			if f {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("%d calls of Set were the first", n)
		}
	}
}

func TestLatch_WithoutWaiters_DoesNotAllocate(t *testing.T) {
	var latches [101]latch
	next := 0
	if n := testing.AllocsPerRun(len(latches)-1, func() {
		l := &latches[next]
		next++
		l.IsSet()
		l.Set()
		<-l.Done()
	}); n != 0 {
		t.Errorf("%v allocations without a waiter", n)
	}
}
