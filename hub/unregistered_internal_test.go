package hub

import (
	"testing"
	"time"
)

// TestUnregistered_LetsGoOfThoseThatHaveEnded has many come in one second of which nearly all leave
// at once: the queue keeps few of them, and gives out the others in their order.
func TestUnregistered_LetsGoOfThoseThatHaveEnded(t *testing.T) {
	h := &Hub{started: time.Now()}
	u := &h.unregistered
	u.init()
	const many, every = 10_000, 1000
	var stay []*session
	for i := range many {
		s := &session{hub: h}
		u.add(s)
		if i%every == 0 {
			stay = append(stay, s)
		} else {
			s.done.Set()
		}
	}
	kept := 0
	for b := u.first; b != nil; b = b.next {
		for i := b.from; i < b.to; i++ {
			if b.sessions[i].session != nil {
				kept++
			}
		}
	}
	if most := many/every + len(u.first.sessions); kept > most {
		t.Errorf("%d sessions are kept of %d that live", kept, len(stay))
	}
	if s, wait := u.take(0); s != nil || wait <= 0 {
		t.Errorf("registered before its time: %v, %v", s, wait)
	}
	for _, want := range stay {
		s, _ := u.take(time.Hour)
		for s != nil && s.done.IsSet() { // of the last block
			s, _ = u.take(time.Hour)
		}
		if s != want {
			t.Fatal("not in the order in which they came")
		}
	}
	for s, _ := u.take(time.Hour); s != nil; s, _ = u.take(time.Hour) {
		if !s.done.IsSet() {
			t.Error("one comes twice")
		}
	}
	u.add(stay[0]) // it can be used again
	if s, _ := u.take(time.Hour); s != stay[0] {
		t.Error("what came behind all others is not registered")
	}
}
