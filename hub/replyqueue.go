package hub

import (
	"sync"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/socket"
)

const (
	// maxReplyBytes is the maximum size of the replies that a client of version 1 gets at once,
	// in bytes: each client has memory for that even if others hold all the rest. A longer reply is
	// sent alone.
	maxReplyBytes = minPerClient / 2

	// maxPendingReplies is the number of replies at which the hub stops reading from a client of
	// version 1 until some are written. A reply of more than maxReplyBytes counts as that many.
	// With fewer pending replies, the messages of the client do not wait for what others send to
	// it.
	maxPendingReplies = 4

	// maxRequestReadBytes is how many bytes are read at once from a client that most likely
	// sends requests. Few of them are left when the hub stops reading.
	maxRequestReadBytes = 1 << 10
)

// replyQueue tracks the replies to a client of version 1 that are not all written. The hub
// reads on when all but a few are written. A client that sends requests and does not read the
// replies thus holds next to no memory, waits for nothing that others wait for, and is closed
// when it stalls. A client of version 2 must be read all the time, because it sends ACKs: see
// readBatch.waitBlocked.
type replyQueue struct {
	conn    *conn
	options outbox.Options
}

var replyQueues = sync.Pool{New: func() any {
	a := new(replyQueue)
	a.options = outbox.Options{Events: a, Overflow: outbox.OverflowForce}
	return a
}}

// offerReplies queues replies for the client itself.
func (c *conn) offerReplies(batch *outbox.Batch, flusher *outbox.Flusher) {
	q := c.replies
	if q == nil {
		q = replyQueues.Get().(*replyQueue)
		q.conn = c
		c.replies = q
	}
	c.requestedInLastRead = true
	batch.Options, batch.Receiver = &q.options, 1
	if batch.To-batch.From > maxReplyBytes {
		batch.Receiver = maxPendingReplies
	}
	c.pendingReplies.Add(int32(batch.Frames * batch.Receiver))
	if c.sock.Offer(batch, flusher) != outbox.Queued {
		c.onRepliesWritten(batch.Frames * batch.Receiver)
	}
}

// HandleEvent handles an event of replies that count as weight each: see outbox.EventHandler.
func (q *replyQueue) HandleEvent(weight int, event outbox.Event, _, frames int) {
	if event == outbox.EventWritten || event == outbox.EventLost {
		q.conn.onRepliesWritten(frames * weight) // afterwards q may belong to another connection
	}
}

// onRepliesWritten records that replies which count as n were written or lost.
func (c *conn) onRepliesWritten(n int) {
	if c.pendingReplies.Add(-int32(n)) >= maxPendingReplies {
		return
	}
	if signal := c.replySignal.Load(); signal != nil {
		select {
		case *signal <- struct{}{}:
		default:
		}
	}
}

// releaseReplyQueue gives back the reply queue if all replies are written.
func (c *conn) releaseReplyQueue() {
	if c.replies != nil && c.pendingReplies.Load() == 0 {
		c.replies.conn = nil
		replyQueues.Put(c.replies)
		c.replies = nil
	}
}

// readLimit returns how many bytes to read at once next; 0: as many as possible. A client
// that has sent requests most likely sends more, and a client that was idle possibly does.
// For a client that was idle there is a second reason to read little: a larger buffer comes
// from the budget, and to acquire it takes more stack than a new goroutine has: see
// conn.readLoop.
func (c *conn) readLimit() int {
	expectRequests := c.requestedInLastRead || !c.busy
	c.requestedInLastRead = false
	limit := c.limiter.MaxRead()
	if expectRequests && (limit == 0 || limit > maxRequestReadBytes) {
		return maxRequestReadBytes
	}
	return limit
}

// repliesBlocked reports whether replies must be written before the client is read on.
func (c *conn) repliesBlocked() bool { return c.pendingReplies.Load() >= maxPendingReplies }

// waitReplies waits until enough replies are written. It must be called between two reads,
// because thousands of clients can wait then and hold little. If much of what the client has
// sent is not handled yet, that is charged to the client like a message, and the client must
// read its replies as fast as any client that holds memory for which others wait.
func (c *conn) waitReplies() error {
	if !c.repliesBlocked() {
		return nil
	}
	c.sock.StartStallTimer()
	defer c.sock.StopStallTimer()
	if err := c.sock.Compact(); err != nil {
		return err
	}
	signal := make(chan struct{}, 1) // fewer replies are pending, look again
	c.replySignal.Store(&signal)
	defer c.replySignal.Store(nil)
	for c.repliesBlocked() {
		select {
		case <-signal:
		case <-c.done.Done():
			return errConnClosed
		case <-c.hub.closing:
			return socket.ErrInterrupted
		}
	}
	return nil
}
