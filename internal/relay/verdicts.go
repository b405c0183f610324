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
	waiters map[verdictKey]verdictWaiter
}

// verdictWaiter waits for a VERDICT on a message.
type verdictWaiter interface {
	// applyVerdict decides the fate of the message for the receiver of v.
	applyVerdict(v *Verdicts, fate wire.Fate)

	// failVerdict is called when v gets no further VERDICT.
	failVerdict(v *Verdicts)
}

// verdictKey identifies a message in a VERDICT of a receiver.
type verdictKey struct{ sender, seq uint64 }

// await lets the VERDICT on a message reach w.
func (v *Verdicts) await(key verdictKey, w verdictWaiter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiters == nil {
		v.waiters = make(map[verdictKey]verdictWaiter)
	}
	v.waiters[key] = w
}

// cancel undoes await.
func (v *Verdicts) cancel(key verdictKey) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.waiters, key)
}

// Apply passes a verdict on to its message, and reports whether the message waits for one.
func (v *Verdicts) Apply(verdict wire.Verdict) bool {
	v.mu.Lock()
	w := v.waiters[verdictKey{verdict.Sender, verdict.Seq}]
	v.mu.Unlock()
	if w == nil {
		return false
	}
	w.applyVerdict(v, verdict.Fate)
	return true
}

// Fail decides the messages that wait for a VERDICT: the receiver has ended, and no VERDICT of it
// will come.
func (v *Verdicts) Fail() {
	v.mu.Lock()
	waiters := slices.Collect(maps.Values(v.waiters))
	v.mu.Unlock()
	for _, w := range waiters {
		w.failVerdict(v)
	}
}
