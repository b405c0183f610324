package hub

import (
	"sync"
	"time"
)

// registerDelay is how long a connection is not registered while its first frame has not come: until
// then nobody knows which version of the protocol its client speaks, or whether it resumes a session.
// A client of version 1 may listen only, and must be found all the same.
//
// Those that come within registerSlack are looked at together.
const (
	registerDelay = time.Second
	registerSlack = 10 * time.Millisecond
)

// registerQueue is a queue of the connections whose first frame had not come when they came. It must
// be initialized.
//
// Of thousands that come and leave in one second it lets go before their time: when a block is
// full, those of it and of the block before that have ended are taken out.
type registerQueue struct {
	wake chan struct{} // capacity 1: the queue was empty

	mu          sync.Mutex
	first, last *registerBlock // in the order of their times; only a single one may be empty
	prev        *registerBlock // the one before last; nil: there is none, or it is taken
}

// registerBlock is a part of the queue, which grows and shrinks by blocks: thousands that come in one
// second would make a slice of half a megabyte, and as much garbage on the way there.
type registerBlock struct {
	next     *registerBlock
	from, to int // which of the sessions are in the queue; nil: it has ended
	conns    [64]struct {
		*conn
		at time.Duration // when it is registered if no frame has come, from the start of the hub
	}
}

func (q *registerQueue) init() {
	q.wake = make(chan struct{}, 1)
	q.first = new(registerBlock)
	q.last = q.first
}

// add has a session registered after registerDelay, unless its first frame comes before.
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
	e.conn, e.at = c, time.Since(c.hub.started)+registerDelay
	b.to++
	if b == q.first && b.to-b.from == 1 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// dropClosed takes out the sessions that have ended.
func (b *registerBlock) dropClosed() {
	for i := b.from; i < b.to; i++ {
		if e := &b.conns[i]; e.conn != nil && e.done.IsSet() {
			e.conn = nil
		}
	}
}

// pop takes out the first session if its time has come; now is how long the hub has been there. Otherwise it
// returns nil, and how long it is until then; 0: there is none.
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

// registerLoop registers the clients that have sent no frame for a while. It ends when the hub does.
func (h *Hub) registerLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c, wait := h.registerQueue.pop(time.Since(h.started))
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
		case <-h.registerQueue.wake:
		case <-timerC:
		case <-h.closing:
			return
		}
	}
}
