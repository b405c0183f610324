package hub

import "sync/atomic"

// latch is an event that happens once. It has a channel only while a goroutine waits for it,
// and takes 8 bytes instead of 120. The zero value is ready. All methods can be called
// concurrently.
type latch struct{ state atomic.Pointer[latchState] }

type latchState struct{ happened chan struct{} }

// latched is the state of every latch that was set.
var latched = func() *latchState {
	s := &latchState{make(chan struct{})}
	close(s.happened)
	return s
}()

// Set releases all waiters. It reports whether it was the first call.
func (l *latch) Set() bool {
	prev := l.state.Swap(latched)
	if prev != nil && prev != latched {
		close(prev.happened)
	}
	return prev != latched
}

// IsSet reports whether Set was called.
func (l *latch) IsSet() bool { return l.state.Load() == latched }

// Done returns a channel that Set closes.
func (l *latch) Done() <-chan struct{} {
	for {
		if s := l.state.Load(); s != nil {
			return s.happened
		}
		if s := (&latchState{make(chan struct{})}); l.state.CompareAndSwap(nil, s) {
			return s.happened
		}
	}
}

// isClosed reports whether c is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
