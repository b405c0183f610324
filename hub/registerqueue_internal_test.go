package hub

import (
	"testing"
	"time"
)

// TestRegisterQueue_ClosedConns_AreReleased has many come in one second of which nearly all leave
// at once: the queue keeps few of them, and gives out the others in their order.
func TestRegisterQueue_ClosedConns_AreReleased(t *testing.T) {
	h := &Hub{started: time.Now()}
	q := &h.registerQueue
	q.init()
	const many, every = 10_000, 1000
	var open []*conn
	for i := range many {
		c := &conn{hub: h}
		q.add(c)
		if i%every == 0 {
			open = append(open, c)
		} else {
			c.done.Set()
		}
	}
	kept := 0
	for b := q.first; b != nil; b = b.next {
		for i := b.from; i < b.to; i++ {
			if b.conns[i].conn != nil {
				kept++
			}
		}
	}
	if maxKept := many/every + len(q.first.conns); kept > maxKept {
		t.Errorf("%d sessions are kept of %d that live", kept, len(open))
	}
	if c, wait := q.pop(0); c != nil || wait <= 0 {
		t.Errorf("registered before its time: %v, %v", c, wait)
	}
	for _, want := range open {
		c, _ := q.pop(time.Hour)
		for c != nil && c.done.IsSet() { // of the last block
			c, _ = q.pop(time.Hour)
		}
		if c != want {
			t.Fatal("not in the order in which they came")
		}
	}
	for c, _ := q.pop(time.Hour); c != nil; c, _ = q.pop(time.Hour) {
		if !c.done.IsSet() {
			t.Error("one comes twice")
		}
	}
	q.add(open[0]) // it can be used again
	if c, _ := q.pop(time.Hour); c != open[0] {
		t.Error("what came behind all others is not registered")
	}
}
