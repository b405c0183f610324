package hub

import (
	"sync"
	"sync/atomic"

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

// replies are the replies to a client of version 1. The hub reads on when all but a few are
// written. A client that sends requests and does not read the replies thus holds next to no
// memory, waits for nothing that others wait for, and is closed when it stalls. A client of
// version 2 must be read all the time, because it sends ACKs: see readBatch.waitBlocked.
//
// The zero value is ready. The read loop owns it.
type replies struct {
	queue *replyQueue // nil: all replies are written
}

// replyQueue counts the replies to one client that are not written. It is pooled: a client has
// one only while replies are pending.
type replyQueue struct {
	options outbox.Options // static
	pending atomic.Int32   // a long reply counts as maxPendingReplies
	// receives when fewer replies are pending; nil: the read loop does not wait for them
	signal atomic.Pointer[chan struct{}]
}

var replyQueues = sync.Pool{New: func() any {
	q := new(replyQueue)
	q.options = outbox.Options{Events: q, Overflow: outbox.OverflowForce}
	return q
}}

// offer queues replies for the client itself, whose connection is sock.
func (r *replies) offer(sock *socket.Conn, batch *outbox.Batch, flusher *outbox.Flusher) {
	q := r.queue
	if q == nil {
		q = replyQueues.Get().(*replyQueue)
		r.queue = q
	}
	batch.Options, batch.Receiver = &q.options, 1
	if batch.To-batch.From > maxReplyBytes {
		batch.Receiver = maxPendingReplies
	}
	q.pending.Add(int32(batch.Frames * batch.Receiver))
	if sock.Offer(batch, flusher) != outbox.Queued {
		q.onWritten(batch.Frames * batch.Receiver)
	}
}

// HandleEvent handles an event of replies that count as weight each: see outbox.EventHandler.
func (q *replyQueue) HandleEvent(weight int, event outbox.Event, _, frames int) {
	if event == outbox.EventWritten || event == outbox.EventLost {
		q.onWritten(frames * weight)
	}
}

// onWritten records that replies which count as n were written or lost.
func (q *replyQueue) onWritten(n int) {
	if q.pending.Add(-int32(n)) >= maxPendingReplies {
		return
	}
	// From here on, q may belong to another connection, which then looks again without need.
	if signal := q.signal.Load(); signal != nil {
		select {
		case *signal <- struct{}{}:
		default:
		}
	}
}

// release gives back the queue if all replies are written.
func (r *replies) release() {
	if r.queue != nil && r.queue.pending.Load() == 0 {
		replyQueues.Put(r.queue)
		r.queue = nil
	}
}

// repliesReadLimit returns how many bytes to read at once next, if that is less than limit; 0: as
// many as possible. expectRequests says that the client possibly sends requests next: it has
// sent one, or it was idle. For a client that was idle there is a second reason to read little:
// a larger buffer comes from the budget, and to acquire it takes more stack than a new
// goroutine has: see conn.readLoop.
func repliesReadLimit(limit int, expectRequests bool) int {
	if expectRequests && (limit == 0 || limit > maxRequestReadBytes) {
		return maxRequestReadBytes
	}
	return limit
}

// blocked reports whether replies must be written before the client is read on.
func (r *replies) blocked() bool {
	return r.queue != nil && r.queue.pending.Load() >= maxPendingReplies
}

// wait waits until enough replies are written. It must be called between two reads, because
// thousands of clients can wait then and hold little. If much of what the client has sent is
// not handled yet, that is charged to the client like a message, and the client must read its
// replies as fast as any client that holds memory for which others wait.
func (r *replies) wait(sock *socket.Conn, done *latch, closing <-chan struct{}) error {
	if !r.blocked() {
		return nil
	}
	sock.StartStallTimer()
	defer sock.StopStallTimer()
	if err := sock.Compact(); err != nil {
		return err
	}
	signal := make(chan struct{}, 1) // fewer replies are pending, look again
	r.queue.signal.Store(&signal)
	defer r.queue.signal.Store(nil)
	for r.blocked() {
		select {
		case <-signal:
		case <-done.Done():
			return errConnClosed
		case <-closing:
			return socket.ErrInterrupted
		}
	}
	return nil
}
