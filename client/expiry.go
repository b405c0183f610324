package client

import (
	"cmp"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// A message with a TTL can wait in the send queue, in the outbox of a connection, and in the
// hub. If the client knows that the hub has not received the message, the client drops it when
// it expires and makes the report itself. Otherwise the hub makes the report.

// sockOptions returns the socket options of a message that is sent now, or nil without a TTL.
// The hub gets the remaining time in whole milliseconds when the message is written; because of
// this a message expires when less than 1 ms is left.
func (o *SendOptions) sockOptions() *socket.Options {
	if o.TTL == 0 {
		return nil
	}
	return &socket.Options{Expires: time.Now().Add(o.TTL - time.Millisecond).UnixNano(), Stamp: stampTTL}
}

// stampTTL writes the remaining time, in ns, into a SEND: see socket.Options.Stamp.
func stampTTL(frame []byte, remaining int64) {
	wire.PutSendTTL(frame, uint32((remaining+int64(time.Millisecond))/int64(time.Millisecond)))
}

// timeLeft returns the time until p, which has a TTL, expires.
func (p *pendingSend) timeLeft() time.Duration {
	return time.Until(time.Unix(0, p.sockOptions.Expires))
}

// expiryHandler is the socket.EventHandler of a message with a TTL. When the message expires in
// the outbox of a connection, the hub has not received it.
type expiryHandler struct {
	queue *sendQueue
	seq   uint64
}

// HandleEvent implements socket.EventHandler.
func (h expiryHandler) HandleEvent(_ int, event socket.Event, _, _ int) {
	if event == socket.EventExpired {
		h.queue.removeUnwritten(h.seq)
	}
}

// startExpiry starts the timer that calls onExpired when p expires. It is called with mu held.
func (q *sendQueue) startExpiry(p *pendingSend, c *call) {
	seq, options := p.seq, p.sockOptions
	q.timers.Add(1)
	c.timer = time.AfterFunc(p.timeLeft(), func() { q.onExpired(seq, options) })
}

// stopExpiry stops the timer of c, which has ended. It is called with mu held.
func (q *sendQueue) stopExpiry(c *call) {
	if c.timer != nil && c.timer.Stop() {
		q.timers.Done()
	}
}

// scheduleReport makes the timer of c report fate for all receivers at once. The timer has its
// own goroutine; no other goroutine of the client can wait for the callback of the application.
// It is called with mu held.
func (q *sendQueue) scheduleReport(c *call, fate wire.Fate) {
	c.fate = fate
	if !c.timer.Stop() {
		q.timers.Add(1)
	}
	c.timer.Reset(0)
}

// onExpired runs in the timer of a call, when the message expires or when scheduleReport was
// called.
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
	if fate != 0 { // otherwise the hub may have the message, and reports
		c.onReport(&Report{Seq: seq, Fates: slices.Repeat([]wire.Fate{fate}, c.receivers)}, nil)
	}
}

// removeUnwritten removes a message that expired in the outbox of the connection, and schedules
// its report.
func (q *sendQueue) removeUnwritten(seq uint64) {
	q.mu.Lock()
	c := q.calls[seq]
	if c == nil || c.fate != 0 {
		q.mu.Unlock()
		return
	}
	var free *body.Buffer
	switch i, found := q.find(seq); {
	case !found: // the hub has acknowledged a later message
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

// dropExpired removes expired messages at the front of the unsent part of the queue. It is
// called with mu held.
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

// removeExpired removes message i, which is not in flight, from the queue and sets the fate of
// c: expired, or uncertain if an earlier session may have sent the message. It returns the
// buffer of the message. It is called with mu held.
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

// find returns the index of a message in the queue. It is called with mu held.
func (q *sendQueue) find(seq uint64) (i int, found bool) {
	return slices.BinarySearchFunc(q.queue, seq, func(p pendingSend, seq uint64) int { return cmp.Compare(p.seq, seq) })
}

// notifyRemoved signals the goroutines that wait for room, and sends messages that can be sent
// now.
func (q *sendQueue) notifyRemoved() {
	signal(q.notFull)
	signal(q.flushed)
	q.pumpAndProbe()
}
