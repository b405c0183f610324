package hub

import (
	"sync"
	"time"
)

// registerAfter is how long a connection is not registered while its first frame has not come: until
// then nobody knows which version of the protocol its client speaks, or whether it resumes a session.
// A client of version 1 may listen only, and must be found all the same.
//
// Those that come within registerSlack are looked at together.
const (
	registerAfter = time.Second
	registerSlack = 10 * time.Millisecond
)

// unregistered is a queue of the connections whose first frame has not come. It must be initialized.
type unregistered struct {
	wake chan struct{} // capacity 1: the queue was empty

	mu    sync.Mutex
	queue []unregisteredSession // in the order of their times
}

type unregisteredSession struct {
	session *session
	at      time.Time // when it is registered if no frame has come
}

func (u *unregistered) init() { u.wake = make(chan struct{}, 1) }

// add has a session registered after registerAfter, unless its first frame comes before.
func (u *unregistered) add(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.queue = append(u.queue, unregisteredSession{s, time.Now().Add(registerAfter)})
	if len(u.queue) == 1 {
		select {
		case u.wake <- struct{}{}:
		default:
		}
	}
}

// take takes out the first session if its time has come. Otherwise it returns nil, and how long it is
// until then; 0: there is none.
func (u *unregistered) take(now time.Time) (s *session, wait time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.queue) == 0 {
		return nil, 0
	}
	first := &u.queue[0]
	if wait = first.at.Sub(now); wait > 0 {
		return nil, wait
	}
	s, *first = first.session, unregisteredSession{}
	if u.queue = u.queue[1:]; len(u.queue) == 0 {
		u.queue = nil // which gives back what a storm has made of it
	}
	return s, 0
}

// registerSilent registers the clients that have sent no frame for a while. It ends when the hub does.
func (h *Hub) registerSilent() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s, wait := h.unregistered.take(time.Now())
		if s != nil {
			s.entry.Do(s.enter)
			continue
		}
		var again <-chan time.Time
		if wait > 0 {
			timer.Reset(wait + registerSlack)
			again = timer.C
		}
		select {
		case <-h.unregistered.wake:
		case <-again:
		case <-h.closing:
			return
		}
	}
}
