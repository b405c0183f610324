package hub

import (
	"testing"
	"time"
)

// TestRegisterQueue_ClosedConns_AreReleased adds many connections of which nearly all close
// at once: the queue keeps few of them, and returns the open ones in order.
func TestRegisterQueue_ClosedConns_AreReleased(t *testing.T) {
	h := &Hub{started: time.Now()}
	q := &h.registerQueue
	q.init(h.started)
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
		t.Errorf("%d connections are kept, %d are open", kept, len(open))
	}
	if c, wait := q.pop(0); c != nil || wait <= 0 {
		t.Errorf("registered before its time: %v, %v", c, wait)
	}
	for _, want := range open {
		c, _ := q.pop(time.Hour)
		for c != nil && c.done.IsSet() { // closed connections of the last block
			c, _ = q.pop(time.Hour)
		}
		if c != want {
			t.Fatal("not in the order in which they were added")
		}
	}
	for c, _ := q.pop(time.Hour); c != nil; c, _ = q.pop(time.Hour) {
		if !c.done.IsSet() {
			t.Error("a connection is returned twice")
		}
	}
	q.add(open[0]) // the queue can be used again
	if c, _ := q.pop(time.Hour); c != open[0] {
		t.Error("a connection added to the empty queue is not returned")
	}
}
