package relay

import (
	"maps"
	"slices"
	"sync"

	"github.com/sechlol/go-message-hub/wire"
)

// Verdicts is where the VERDICTs of one receiver arrive. It holds the messages that wait for one,
// and outlives a connection of the receiver. The zero value is empty. All methods can be called
// concurrently.
type Verdicts struct {
	mu      sync.Mutex
	waiters map[verdictKey]*verdictWaiter
}

// verdictWaiter waits for the VERDICTs on a message.
type verdictWaiter struct {
	key verdictKey

	// apply applies a verdict of the receiver of v. FateUncertain: v gets no further VERDICT.
	apply func(v *Verdicts, fate wire.Fate)
}

// verdictKey identifies a message in a VERDICT of a receiver.
type verdictKey struct{ sender, seq uint64 }

// await lets the VERDICT on a message reach w.
func (v *Verdicts) await(w *verdictWaiter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiters == nil {
		v.waiters = make(map[verdictKey]*verdictWaiter)
	}
	v.waiters[w.key] = w
}

// cancel undoes await. A waiter with the same key that came later stays: a sender with a granted
// id counts from 1 in each of its sessions.
func (v *Verdicts) cancel(w *verdictWaiter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiters[w.key] == w {
		delete(v.waiters, w.key)
	}
}

// ReleaseSpare releases the memory that is kept for later messages while none waits: a map does not
// shrink.
func (v *Verdicts) ReleaseSpare() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.waiters) == 0 {
		v.waiters = nil
	}
}

// Apply passes a verdict on to its message, and reports whether the message waits for one.
func (v *Verdicts) Apply(verdict wire.Verdict) bool {
	v.mu.Lock()
	w := v.waiters[verdictKey{verdict.Sender, verdict.Seq}]
	v.mu.Unlock()
	if w == nil {
		return false
	}
	w.apply(v, verdict.Fate)
	return true
}

// Fail makes the fates that wait for a VERDICT uncertain: the receiver has ended, and no VERDICT
// of it will come.
func (v *Verdicts) Fail() {
	v.mu.Lock()
	waiters := slices.Collect(maps.Values(v.waiters))
	v.mu.Unlock()
	for _, w := range waiters {
		w.apply(v, wire.FateUncertain)
	}
}
