package client

import (
	"cmp"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// A message with a time to live may wait in the line, in the queue of a connection, in the hub. Where the
// client can know that the hub has not had it, the client drops it when its time is up, and
// makes its report; otherwise the hub does.

// sockOptions returns those of a message that is sent now; nil: it has no time to live. The hub is told what is left in whole
// milliseconds when the message is written, so less than one is none.
func (o *SendOptions) sockOptions() *socket.Options {
	if o.TTL == 0 {
		return nil
	}
	return &socket.Options{Expires: time.Now().Add(o.TTL - time.Millisecond).UnixNano(), Stamp: stampTTL}
}

// stampTTL tells the hub what is left of the time to live: see socket.Options.
func stampTTL(frame []byte, remaining int64) {
	wire.PutSendTTL(frame, uint32((remaining+int64(time.Millisecond))/int64(time.Millisecond)))
}

// timeLeft returns how long it is until a message with a time to live expires.
func (p *pendingSend) timeLeft() time.Duration {
	return time.Until(time.Unix(0, p.sockOptions.Expires))
}

// expiryHandler is told when a message has expired in the queue of a connection: the hub has not had it.
type expiryHandler struct {
	queue *sendQueue
	seq   uint64
}

// HandleEvent takes note: see socket.EventHandler.
func (h expiryHandler) HandleEvent(_ int, event socket.Event, _, _ int) {
	if event == socket.EventExpired {
		h.queue.removeUnwritten(h.seq)
	}
}

// startExpiry has the report of a message made when its time is up. It is called with mu held.
func (q *sendQueue) startExpiry(p *pendingSend, c *call) {
	seq, options := p.seq, p.sockOptions
	q.timers.Add(1)
	c.timer = time.AfterFunc(p.timeLeft(), func() { q.onExpired(seq, options) })
}

// stopExpiry stops the timer of a call that is over. It is called with mu held.
func (q *sendQueue) stopExpiry(c *call) {
	if c.timer != nil && c.timer.Stop() {
		q.timers.Done()
	}
}

// scheduleReport has the timer of a call report a fate for all receivers: no other goroutine may wait for the
// application. It is called with mu held.
func (q *sendQueue) scheduleReport(c *call, fate wire.Fate) {
	c.fate = fate
	if !c.timer.Stop() {
		q.timers.Add(1)
	}
	c.timer.Reset(0)
}

// onExpired is called when the time of a message is up, or when it is found out that it was.
func (q *sendQueue) onExpired(seq uint64, options *socket.Options) {
	defer q.timers.Done()
	q.mu.Lock()
	cn := q.conn
	q.mu.Unlock()
	if cn != nil {
		cn.sock.Retract(options)
	}
	q.mu.Lock()
	c := q.calls[seq]
	if c == nil {
		q.mu.Unlock()
		return
	}
	var free *body.Buffer
	if i, found := q.find(seq); found && i >= q.next {
		free = q.removeExpired(i, c)
	}
	fate := c.fate
	if fate != 0 {
		delete(q.calls, seq)
		q.stopExpiry(c)
	}
	q.mu.Unlock()
	if free != nil {
		free.Release()
		q.notifyRemoved()
	}
	if fate != 0 { // otherwise the hub has it, or may have it, and reports
		c.onReport(&Report{Seq: seq, Fates: slices.Repeat([]wire.Fate{fate}, c.receivers)}, nil)
	}
}

// removeUnwritten takes out a message that will not be written on the connection on which it was under way.
func (q *sendQueue) removeUnwritten(seq uint64) {
	q.mu.Lock()
	c := q.calls[seq]
	if c == nil || c.fate != 0 {
		q.mu.Unlock()
		return
	}
	var free *body.Buffer
	switch i, found := q.find(seq); {
	case !found: // the hub has taken what came behind it
		free = q.releaseCall(c)
		q.scheduleReport(c, wire.FateExpired)
	case i < q.next:
		q.removeInFlight(&q.queue[i])
		q.next--
		free = q.removeExpired(i, c)
		q.scheduleReport(c, c.fate)
	default:
		free = q.removeExpired(i, c)
		q.scheduleReport(c, c.fate)
	}
	q.mu.Unlock()
	if free != nil {
		free.Release()
	}
	q.notifyRemoved()
}

// dropExpired takes the messages out of the line that would be the next to go and have expired. It is called with mu
// held.
func (q *sendQueue) dropExpired() {
	for q.next < len(q.queue) && q.queue[q.next].sockOptions != nil && q.queue[q.next].timeLeft() <= 0 {
		c := q.calls[q.queue[q.next].seq]
		if c == nil {
			return // the client has ended
		}
		q.removeExpired(q.next, c).Release()
		q.scheduleReport(c, c.fate)
		signal(q.notFull)
	}
}

// removeExpired takes a message out of the line that is not under way, and decides its fate: a hub of before may
// have had it. It returns the buffer. It is called with mu held.
func (q *sendQueue) removeExpired(i int, c *call) *body.Buffer {
	p := &q.queue[i]
	c.fate = wire.FateExpired
	if p.maybeSent {
		c.fate = wire.FateUncertain
	}
	free := p.buffer
	q.cost -= p.cost
	q.remove(i, i+1)
	return free
}

// find returns where a message stands in the line. It is called with mu held.
func (q *sendQueue) find(seq uint64) (i int, found bool) {
	return slices.BinarySearchFunc(q.queue, seq, func(p pendingSend, seq uint64) int { return cmp.Compare(p.seq, seq) })
}

// notifyRemoved tells those who wait for the line to become shorter, and goes on with what may go now.
func (q *sendQueue) notifyRemoved() {
	signal(q.notFull)
	signal(q.flushed)
	q.pumpAndProbe()
}
