package client

import (
	"sync"
	"sync/atomic"
	"time"
)

// ackDelay is how long an ACK is delayed when nothing requires it at once, and the interval
// between ticks. One ACK then covers many messages.
const ackDelay = 50 * time.Millisecond

// ackTimer calls onTick every ackDelay while there is something to acknowledge or to probe.
type ackTimer struct {
	onTick func() (again bool)
	tickMu sync.Mutex // held while onTick runs
	armed  atomic.Bool

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// arm schedules a tick, unless one is scheduled.
func (t *ackTimer) arm() {
	if !t.armed.Load() && t.armed.CompareAndSwap(false, true) {
		t.schedule()
	}
}

func (t *ackTimer) schedule() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.stopped:
	case t.timer == nil:
		t.timer = time.AfterFunc(ackDelay, t.fire)
	default:
		t.timer.Reset(ackDelay)
	}
}

func (t *ackTimer) fire() {
	t.armed.Store(false) // an arm from here on needs another tick
	t.tickMu.Lock()
	again := t.onTick()
	t.tickMu.Unlock()
	if again {
		t.arm()
	}
}

func (t *ackTimer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.timer != nil {
		t.timer.Stop()
	}
}
