package hub

import (
	"sync"

	"github.com/sechlol/go-message-hub/internal/socket"
)

const (
	// maxReplyBytes is how many bytes of answers a client of version 1 gets at once: as much as it has memory for
	// whatever others hold. Of longer answers it is one.
	maxReplyBytes = minPerClient / 2

	// maxPendingReplies is at how many answers that the connection has not taken such a client is not read on, or at one that is long. With fewer, what it
	// sends does not wait for what others send it.
	maxPendingReplies = 4

	// maxRequestReadBytes is how many bytes are read at once from a client that most likely asks: of its questions, little is left over then.
	maxRequestReadBytes = 1 << 10
)

// replyQueue are those to what a client of version 1 asks, while its connection has not taken all of them. The
// client is read on when it has taken them, but for a few: who asks and asks and does not listen holds next to nothing, waits for
// nothing that others wait for, and is given up when it stalls. In version 2 the client says what it has received, so
// acknowledgements must be read all the time: see readBatch.waitBlocked.
type replyQueue struct {
	conn    *conn
	options socket.Options
}

var replyQueues = sync.Pool{New: func() any {
	a := new(replyQueue)
	a.options = socket.Options{Events: a, Overflow: socket.OverflowForce}
	return a
}}

// offerReplies queues answers for the client itself.
func (c *conn) offerReplies(batch *socket.Batch, flusher *socket.Flusher) {
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
	if c.sock.Offer(batch, flusher) != socket.Queued {
		c.onRepliesWritten(batch.Frames * batch.Receiver)
	}
}

// HandleEvent is told what becomes of answers that count as so many each: see socket.EventHandler.
func (q *replyQueue) HandleEvent(weight int, event socket.Event, _, frames int) {
	if event == socket.EventWritten || event == socket.EventLost {
		q.conn.onRepliesWritten(frames * weight) // afterwards, a may belong to another session
	}
}

// onRepliesWritten notes that the connection has taken answers that count as n, or never will.
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

// releaseReplyQueue gives back what is needed only while the connection has not taken all answers.
func (c *conn) releaseReplyQueue() {
	if c.replies != nil && c.pendingReplies.Load() == 0 {
		c.replies.conn = nil
		replyQueues.Put(c.replies)
		c.replies = nil
	}
}

// readLimit returns how many bytes are to be read at once for the next turn; 0: as many as may be. Who has asked in the last turn most likely asks
// again, and one who has said nothing yet may. One who has been idle gets no more either: a large buffer comes from the budget, and to draw
// it takes more than the stack of a new goroutine: see conn.readLoop.
func (c *conn) readLimit() int {
	expectRequests := c.requestedInLastRead || !c.busy
	c.requestedInLastRead = false
	limit := c.maxReadByRate()
	if expectRequests && (limit == 0 || limit > maxRequestReadBytes) {
		return maxRequestReadBytes
	}
	return limit
}

// repliesBlocked reports whether the client has to take answers before it is read on.
func (c *conn) repliesBlocked() bool { return c.pendingReplies.Load() >= maxPendingReplies }

// repliesBlocked reports whether the client does not take what it was answered, now that it can.
func (rb *readBatch) repliesBlocked() bool {
	if !rb.conn.repliesBlocked() {
		return false
	}
	rb.flusher.Flush()
	return rb.conn.repliesBlocked()
}

// waitReplies waits until the client has taken enough of what it was answered. It must be called between turns, so that thousands
// may wait and hold little. If much of what it has sent is left, that is charged to it like a message, and it must take its answers
// as fast as whoever holds what others wait for.
func (c *conn) waitReplies() error {
	if !c.repliesBlocked() {
		return nil
	}
	c.sock.StartStallTimer()
	defer c.sock.StopStallTimer()
	if err := c.sock.Compact(); err != nil {
		return err
	}
	signal := make(chan struct{}, 1) // it has taken enough, look again
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
