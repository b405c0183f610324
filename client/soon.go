package client

import (
	"sync"
	"sync/atomic"
	"time"
)

// soonest is for how long the hub is not told what was received while it need not
// be, so that many messages go together. Until then it keeps them.
const soonest = 50 * time.Millisecond

// soon is a timer that runs while there is something to tell or to ask the hub.
type soon struct {
	run     func() (again bool)
	running sync.Mutex // so that it runs once at a time
	armed   atomic.Bool

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

// arm sees to it that run is called.
func (s *soon) arm() {
	if !s.armed.Load() && s.armed.CompareAndSwap(false, true) {
		s.set()
	}
}

func (s *soon) set() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
	case s.timer == nil:
		s.timer = time.AfterFunc(soonest, s.fire)
	default:
		s.timer.Reset(soonest)
	}
}

func (s *soon) fire() {
	s.armed.Store(false) // whoever comes from here on wants another look
	s.running.Lock()
	again := s.run()
	s.running.Unlock()
	if again {
		s.arm()
	}
}

func (s *soon) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.timer != nil {
		s.timer.Stop()
	}
}
