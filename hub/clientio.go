package hub

import (
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// The options of frames that the hub itself sends.
var (
	priorityOptions = outbox.Options{Overflow: outbox.OverflowPriority}
	forceOptions    = outbox.Options{Overflow: outbox.OverflowForce}
	lastOptions     = outbox.Options{Overflow: outbox.OverflowForce, Last: true}
	rejectOptions   = outbox.Options{Overflow: outbox.OverflowReject}
)

// clientIO is the framed connection to a client, with the account of the client. Its methods
// send frames of the hub itself, and can be called concurrently.
type clientIO struct {
	// Static after construction.
	sock    *socket.Conn
	account *body.Account // charged for the memory of the client's messages
}

// Account is a method of socket.Handler.
func (ci *clientIO) Account() *body.Account { return ci.account }

// sendFrame queues a frame for the client and reports whether the outbox has taken it.
func (ci *clientIO) sendFrame(frame []byte, options *outbox.Options) bool {
	return ci.sendFrameTagged(frame, options, 0)
}

// sendFrameTagged is sendFrame for options whose event handler tells frames apart by tag.
func (ci *clientIO) sendFrameTagged(frame []byte, options *outbox.Options, tag int) bool {
	batch := ci.newBatch(frame, options)
	batch.Receiver = tag
	return ci.offerAndFlush(&batch) == outbox.Queued
}

// newBatch returns a batch of one frame, with a buffer of its own.
func (ci *clientIO) newBatch(frame []byte, options *outbox.Options) outbox.Batch {
	buffer := ci.account.ForceAcquireOverhead(len(frame))
	return outbox.Batch{Buffer: buffer, To: copy(buffer.Bytes(), frame), Frames: 1, Options: options}
}

// offerAndFlush offers one batch to the client and flushes it. It takes over the reference to
// the buffer, and releases it before anything is written.
func (ci *clientIO) offerAndFlush(batch *outbox.Batch) outbox.Outcome {
	var flusher outbox.Flusher
	outcome := ci.sock.Offer(batch, &flusher)
	batch.Buffer.Release()
	flusher.Flush()
	return outcome
}

// setMaxDeliver bounds the body of a message that the client is sent, in bytes: to what its
// HELLO names, or to the limit of the hub if HELLO names no less. 0: HELLO names no maximum.
func (ci *clientIO) setMaxDeliver(named uint64, limit int) {
	if named > 0 && named < uint64(limit) {
		ci.sock.SetMaxFrame(wire.DeliverLen(int(named)))
	}
}

// maxDeliver returns the largest body that the client is sent, in bytes, given the limit of the
// hub.
func (ci *clientIO) maxDeliver(limit int) int {
	if frame := ci.sock.MaxFrame(); frame > 0 {
		return frame - wire.DeliverLen(0)
	}
	return limit
}

// tryAcquireBuf returns a buffer of at least minSize and at best preferred bytes, without
// waiting, or nil if there is none.
func (ci *clientIO) tryAcquireBuf(minSize, preferred int) *body.Buffer {
	buf := ci.account.TryAcquire(preferred)
	if buf == nil && minSize <= minPerClient/2 { // fails only if the client holds as much already
		buf = ci.account.TryAcquire(min(preferred, minPerClient/2))
	}
	return buf
}
