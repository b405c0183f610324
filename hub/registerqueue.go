package hub

import (
	"sync"
	"time"
)

// registerDelay is how long a connection is not registered while its first frame has not
// come. Until then it is not known which version of the protocol its client speaks, or
// whether it resumes a session. A client of version 1 that only receives must be registered
// nevertheless.
//
// Connections whose delay ends within registerSlack are registered together.
const (
	registerDelay = time.Second
	registerSlack = 10 * time.Millisecond
)

// registerQueue is a queue of connections whose first frame has not come. It must be
// initialized with init.
//
// Of thousands of connections that open and close within one second, most are removed before
// their time: when a block is full, the closed connections of that block and of the one
// before are removed.
type registerQueue struct {
	// Static after init.
	started time.Time     // of the hub
	wake    chan struct{} // capacity 1: the queue is no longer empty

	// mu guards the fields below.
	mu          sync.Mutex
	first, last *registerBlock // in the order of their times; only a single block can be empty
	prev        *registerBlock // the block before last; nil: none, or removed
}

// registerBlock is a part of the queue, which grows and shrinks by blocks. For thousands of
// connections in one second, a slice would take half a megabyte, and leave as much garbage
// while it grows.
type registerBlock struct {
	next     *registerBlock
	from, to int // range of conns in the queue; nil in it: closed
	conns    [64]struct {
		*conn
		at time.Duration // when it is registered if no frame has come, since the start of the hub
	}
}

func (q *registerQueue) init(started time.Time) {
	q.started = started
	q.wake = make(chan struct{}, 1)
	q.first = new(registerBlock)
	q.last = q.first
}

// add has c registered after registerDelay, unless its first frame comes before.
func (q *registerQueue) add(c *conn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.last
	if b.to == len(b.conns) {
		b.dropClosed()
		if q.prev != nil {
			q.prev.dropClosed()
		}
		b.next = new(registerBlock)
		q.prev, b = b, b.next
		q.last = b
	}
	e := &b.conns[b.to]
	e.conn, e.at = c, time.Since(q.started)+registerDelay
	b.to++
	if b == q.first && b.to-b.from == 1 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// dropClosed removes the closed connections of the block.
func (b *registerBlock) dropClosed() {
	for i := b.from; i < b.to; i++ {
		if e := &b.conns[i]; e.conn != nil && e.done.IsSet() {
			e.conn = nil
		}
	}
}

// pop removes and returns the first connection if its time has come, where uptime is the time
// since the start of the hub. Otherwise it returns nil, and how long to wait; 0: the queue is
// empty.
func (q *registerQueue) pop(uptime time.Duration) (c *conn, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for c == nil {
		b := q.first
		if b.from == b.to {
			return nil, 0
		}
		e := &b.conns[b.from]
		if wait = e.at - uptime; wait > 0 && e.conn != nil {
			return nil, wait
		}
		c, e.conn = e.conn, nil
		b.from++
		switch {
		case b.from < b.to:
		case b.next != nil:
			if q.first = b.next; q.prev == b {
				q.prev = nil
			}
		default:
			b.from, b.to = 0, 0
		}
	}
	return c, 0
}

// run registers the clients that have sent no frame for registerDelay, until stop is closed.
func (q *registerQueue) run(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c, wait := q.pop(time.Since(q.started))
		if c != nil {
			c.registerOnce.Do(c.registerClient)
			continue
		}
		var timerC <-chan time.Time
		if wait > 0 {
			timer.Reset(wait + registerSlack)
			timerC = timer.C
		}
		select {
		case <-q.wake:
		case <-timerC:
		case <-stop:
			return
		}
	}
}
