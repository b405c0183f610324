package membus

import (
	"container/heap"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/cluster"
)

// Carrier is the end of a bus at one hub. It implements cluster.Carrier.
type Carrier struct {
	// Static after construction.
	bus  *Bus
	node cluster.Node
	wake chan struct{} // capacity 1: queue has changed
	stop chan struct{} // closed by Close
	wg   sync.WaitGroup

	// Guarded by bus.mu.
	receiving bool
	queue     deliveries
}

var _ cluster.Carrier = (*Carrier)(nil)

// Send sends a frame to a hub; 0: to all others. It does not block. It returns an error if the
// frame is too large, or if this hub is isolated or its carrier closed.
func (c *Carrier) Send(to cluster.Node, frame []byte) error { return c.bus.send(c, to, frame) }

// Receive has handle called for each frame that arrives from now on, one at a time, in a goroutine
// that ends with Close. When handle returns, frame is overwritten, so that a handle that keeps it
// does not go unnoticed.
func (c *Carrier) Receive(handle func(frame []byte)) {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	if c.receiving {
		panic("membus: second call of Receive")
	}
	if c.bus.carriers[c.node] != c {
		return // closed
	}
	c.receiving = true
	c.wg.Go(func() { c.receive(handle) })
}

// Close ends the carrier and waits for handle to return, which therefore must not call it. What has
// not arrived is lost. The hub can join again. Close can be called more than once.
func (c *Carrier) Close() error {
	c.bus.mu.Lock()
	if c.bus.carriers[c.node] == c {
		delete(c.bus.carriers, c.node)
		c.bus.counts.Lost += uint64(len(c.queue))
		c.queue = nil
		close(c.stop)
	}
	c.bus.mu.Unlock()
	c.wg.Wait()
	return nil
}

// receive calls handle for each frame when it arrives.
func (c *Carrier) receive(handle func(frame []byte)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		frame, wait := c.next()
		if frame != nil {
			handle(frame)
			overwrite(frame)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-c.wake:
		case <-c.stop:
			return
		}
	}
}

// idleWait is how long a receiver without frames waits for a signal: practically for ever.
const idleWait = 24 * time.Hour

// next removes the first frame that has arrived. Without one, it returns how long to wait.
func (c *Carrier) next() (frame []byte, wait time.Duration) {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	for len(c.queue) > 0 {
		if wait := time.Until(c.queue[0].at); wait > 0 {
			return nil, wait
		}
		d := heap.Pop(&c.queue).(delivery)
		if c.bus.passes(route{d.from, c.node}) {
			c.bus.counts.Delivered++
			return d.frame, 0
		}
		c.bus.counts.Cut++
	}
	return nil, idleWait
}

// push queues a frame. It is called with bus.mu held.
func (c *Carrier) push(d delivery) {
	heap.Push(&c.queue, d)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// overwrite makes a frame useless.
func overwrite(frame []byte) {
	for i := range frame {
		frame[i] = 0xdb
	}
}

// delivery is a frame on its way.
type delivery struct {
	from   cluster.Node
	at     time.Time // when it arrives
	number uint64    // orders deliveries with the same at
	frame  []byte    // never nil
}

// deliveries implements heap.Interface: the next to arrive is the first.
type deliveries []delivery

func (d deliveries) Len() int      { return len(d) }
func (d deliveries) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *deliveries) Push(x any)   { *d = append(*d, x.(delivery)) }

func (d deliveries) Less(i, j int) bool {
	if d[i].at.Equal(d[j].at) {
		return d[i].number < d[j].number
	}
	return d[i].at.Before(d[j].at)
}

func (d *deliveries) Pop() any {
	old := *d
	last := old[len(old)-1]
	old[len(old)-1] = delivery{}
	*d = old[:len(old)-1]
	return last
}
