package relay

import (
	"bytes"
	"slices"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// Builder builds batches. Consecutive messages to the same receivers, as from a client that sends
// much to its group, form a batch: their deliveries are encoded one behind the other into one
// buffer, and the batch is offered to each receiver once. A receiver thus costs once per batch, not
// once per message. Frames without receivers are replies to the sender itself.
//
// The zero value has no buffer. A Builder belongs to one goroutine at a time.
type Builder struct {
	buf       *body.Buffer // nil until SetBuf
	batch     outbox.Batch // the frames in buf that Take has not returned; buf is used up to batch.To
	receivers wire.IDs     // of the batch; nil: the sender itself, or there is no batch
	options   Options      // of the batch
}

// SetBuf makes b encode into buf, and takes over the caller's reference. There must be no batch.
func (b *Builder) SetBuf(buf *body.Buffer) {
	b.Release()
	b.buf, b.batch = buf, outbox.Batch{Buffer: buf}
}

// Release releases the buffer. There must be no batch.
func (b *Builder) Release() {
	if b.buf != nil {
		b.buf.Release()
	}
	*b = Builder{}
}

// Frames returns the number of frames in the batch.
func (b *Builder) Frames() int { return b.batch.Frames }

// HasMessages reports whether the frames of the batch are messages, and not replies.
func (b *Builder) HasMessages() bool { return b.receivers != nil }

// HasRoom reports whether the buffer has room for size more bytes.
func (b *Builder) HasRoom(size int) bool {
	return b.buf != nil && len(b.buf.Bytes())-b.batch.To >= size
}

// Accepts reports whether a frame for these receivers with these options can join the batch. buf
// returns space for the ids of all receivers.
//
// If receivers names a client twice, each message must be a batch of its own: in a longer batch,
// the second copy of the first message would come after the first copy of the last.
func (b *Builder) Accepts(receivers wire.IDs, options Options, buf func() []uint64) bool {
	switch {
	case b.batch.Frames == 0:
		return true
	case options != b.options || !bytes.Equal(b.receivers, receivers):
		return false
	case b.batch.Frames > 1:
		return true // its second frame has passed the check for duplicates
	}
	return !hasDuplicates(buf, receivers)
}

// Append appends one frame to the batch, which must accept it, and whose buffer must have room.
// receivers is kept until Take. encode appends the frame to its argument.
func (b *Builder) Append(receivers wire.IDs, options Options, encode func([]byte) []byte) {
	b.receivers, b.options = receivers, options
	b.batch.To = len(encode(b.buf.Bytes()[:b.batch.To]))
	b.batch.Frames++
	b.batch.Messages = receivers != nil
}

// Take returns the batch, and lets b begin another one in the rest of the buffer. The batch holds
// no reference to the buffer of its own: it is valid until SetBuf or Release.
func (b *Builder) Take() (batch outbox.Batch, receivers wire.IDs, options Options) {
	batch, receivers, options = b.batch, b.receivers, b.options
	b.batch = outbox.Batch{Buffer: b.buf, From: batch.To, To: batch.To}
	b.receivers, b.options = nil, Options{}
	return batch, receivers, options
}

// hasDuplicates reports whether receivers names a client twice. buf returns space for all ids.
func hasDuplicates(buf func() []uint64, receivers wire.IDs) bool {
	if receivers.Len() < 2 {
		return false
	}
	ids := receivers.AppendTo(buf())
	slices.Sort(ids)
	return len(slices.Compact(ids)) < receivers.Len()
}
