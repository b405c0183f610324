package hub

import "github.com/sechlol/go-message-hub/internal/outbox"

// The options of frames that the hub itself sends.
var (
	priorityOptions = outbox.Options{Overflow: outbox.OverflowPriority}
	forceOptions    = outbox.Options{Overflow: outbox.OverflowForce}
	rejectOptions   = outbox.Options{Overflow: outbox.OverflowReject}
)

// sendFrame queues a frame for the client and reports whether the outbox has taken it.
func (c *conn) sendFrame(frame []byte, options *outbox.Options) bool {
	return c.sendFrameTagged(frame, options, 0)
}

// sendFrameTagged is sendFrame for options whose event handler tells frames apart by tag.
func (c *conn) sendFrameTagged(frame []byte, options *outbox.Options, tag int) bool {
	batch := c.newBatch(frame, options)
	batch.Receiver = tag
	return c.offerAndFlush(&batch) == outbox.Queued
}

// newBatch returns a batch of one frame, with a buffer of its own.
func (c *conn) newBatch(frame []byte, options *outbox.Options) outbox.Batch {
	buffer := c.account.ForceAcquireOverhead(len(frame))
	return outbox.Batch{Buffer: buffer, To: copy(buffer.Bytes(), frame), Frames: 1, Options: options}
}

// offerAndFlush offers one batch to the client and flushes it. It takes over the reference to
// the buffer, and releases it before anything is written.
func (c *conn) offerAndFlush(batch *outbox.Batch) outbox.Outcome {
	var flusher outbox.Flusher
	outcome := c.sock.Offer(batch, &flusher)
	batch.Buffer.Release()
	flusher.Flush()
	return outcome
}
