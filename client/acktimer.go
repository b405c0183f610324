package client

import (
	"sync"
	"sync/atomic"
	"time"
)

// ackDelay is for how long the hub is not told what was received while it need not
// be, so that many messages go together. Until then it keeps them.
const ackDelay = 50 * time.Millisecond

// ackTimer is a timer that runs while there is something to tell or to ask the hub.
type ackTimer struct {
	onTick func() (again bool)
	tickMu sync.Mutex // so that it runs once at a time
	armed  atomic.Bool

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// arm sees to it that run is called.
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
	t.armed.Store(false) // whoever comes from here on wants another look
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
