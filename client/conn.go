package client

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/socket"
)

// maxUnsentBytes is how many unsent bytes the kernel can hold before MaxQueued counts the rest.
// By default a kernel takes 4 MB per client, and runs short of memory with hundreds of clients
// (docs/decisions/0002).
const maxUnsentBytes = 256 << 10

// minWhole is the frame size, in bytes, above which the kernel holds a frame until all of it
// has arrived. Below that size, the additional system calls cost more than they save
// (docs/decisions/0002).
const minWhole = 256 << 10

// coalesceDelay is how long the outbox must have been idle before Send writes directly. Many
// Sends often follow one another, and are better written together: to queue a message takes 0.2
// µs, and a write takes about coalesceDelay.
const coalesceDelay = 10 * time.Microsecond

// conn is one framed connection to the hub. It sends frames; a reader reads them.
type conn struct {
	// Static after newConn.
	sock     *socket.Conn
	counts   *counts
	openedAt time.Time
	done     chan struct{} // closed when the connection has ended

	pending pendingRequests
}

// newConn returns a conn for nc. It neither reads nor writes.
func newConn(nc net.Conn, o *Options, counts *counts) *conn {
	if o.ReadBuffer > 0 {
		socket.SetReadBuffer(nc, o.ReadBuffer)
	}
	cn := &conn{counts: counts, openedAt: time.Now(), done: make(chan struct{})}
	cn.pending.init()
	cn.sock = socket.New(nc, &socket.Config{
		MaxLength:      o.maxLength(),
		FrameTimeout:   o.FrameTimeout,
		Outbox:         outbox.Config{MaxBytes: o.MaxQueued, CoalesceDelay: coalesceDelay},
		MaxUnsentBytes: maxUnsentBytes,
		MinWhole:       minWhole,
		RetainsFrames:  o.OnMessage == nil,
	}, connHandler{cn})
	return cn
}

// close ends cn with err. No goroutine may read from it any more.
func (cn *conn) close(err error) {
	close(cn.done)
	cn.sock.Close()
	cn.pending.close(err) // the waiters retry on the next connection, or see that the client has ended
	cn.sock.ReleaseAll()
	cn.sock.Wait()
}

// flushers are reused, because a Flusher is needed for each call that queues frames.
var flushers = sync.Pool{New: func() any { return new(outbox.Flusher) }}

// enqueue queues frames to be written, and waits for room until ctx ends. If the connection has
// ended, the error is ErrConnectionLost.
func (cn *conn) enqueue(ctx context.Context, b *outbox.Batch) error {
	f := flushers.Get().(*outbox.Flusher)
	outcome := f.OfferWait(&cn.sock.Outbox, b, ctx.Done())
	flushers.Put(f)
	switch outcome {
	case outbox.Queued:
		return nil
	case outbox.Blocked:
		return ctx.Err()
	default:
		return ErrConnectionLost
	}
}

// sendBatch queues control frames. Their options are OverflowForce, because of which they never
// block.
func (cn *conn) sendBatch(b *outbox.Batch) {
	f := flushers.Get().(*outbox.Flusher)
	cn.sock.Offer(b, f)
	f.Abandon()
	flushers.Put(f)
}

// forceOptions are the options of control frames.
var forceOptions = outbox.Options{Overflow: outbox.OverflowForce}

// byeOptions are the options of BYE, the last frame on a connection. The hub closes the
// connection after BYE. If unread frames followed, the close would reset the connection, and
// the client would not learn which messages the hub has acknowledged.
var byeOptions = outbox.Options{Overflow: outbox.OverflowForce, Last: true}

// sendFrame is sendBatch for one frame. It copies frame.
func (cn *conn) sendFrame(frame []byte, options *outbox.Options) {
	buffer := body.Get(len(frame))
	defer buffer.Release()
	cn.sendBatch(&outbox.Batch{Buffer: buffer, To: copy(buffer.Bytes(), frame), Frames: 1, Options: options})
}

// trackedOptions are the options of control frames of which onWritten is told when they have
// been written or lost.
func trackedOptions(onWritten func()) outbox.Options {
	return outbox.Options{Events: writtenFunc(onWritten), Overflow: outbox.OverflowForce}
}

// writtenFunc is a outbox.EventHandler that is called when a frame has been written or lost.
type writtenFunc func()

// HandleEvent implements outbox.EventHandler.
func (f writtenFunc) HandleEvent(_ int, event outbox.Event, _, _ int) {
	if event == outbox.EventWritten || event == outbox.EventLost {
		f()
	}
}

// connHandler is the socket.Handler of a conn.
type connHandler struct{ conn *conn }

func (connHandler) Account() *body.Account { return nil }

func (h connHandler) Done() <-chan struct{} { return h.conn.done }

func (h connHandler) OnWritten(n outbox.Counts) { h.conn.counts.onWritten(n) }

func (h connHandler) OnLost(n outbox.Counts) { h.conn.counts.onDropped(n) }

// OnWriteError stops writing at once. Reading goes on until all bytes that the hub had sent
// before the connection broke are handled.
func (h connHandler) OnWriteError(err error) {
	h.conn.pending.close(fmt.Errorf("%w: %w", ErrConnectionLost, err))
	h.conn.sock.StopWhenEmpty()
}
