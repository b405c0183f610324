package outbox

import "github.com/sechlol/go-message-hub/internal/body"

// Batch is a group of consecutive whole frames in a buffer. It holds no reference to the
// buffer: the caller keeps the buffer alive while the batch is offered.
type Batch struct {
	Buffer   *body.Buffer
	From, To int
	Frames   int

	// Messages says that each of the frames carries a message. Otherwise none does. The outbox
	// does not look into frames.
	Messages bool

	// Reliable says that the frames are numbered, and are kept until the peer has acknowledged
	// them, if the outbox has EnableAcks. It holds for all frames of a batch.
	Reliable bool

	Options  *Options // nil: none
	Receiver int      // index of the receiver, passed to Options.Events
	First    int      // index of the first frame, as reported to Options.Events
}

// Outcome is the result of Offer.
type Outcome int

// The outcomes of Offer.
const (
	Queued         Outcome = iota // the batch is queued
	Blocked                       // the queue is full: the batch waits, and Flusher.Wait waits for it
	Closed                        // the outbox is closed
	Full                          // the queue is full, and the batch was rejected
	TooLarge                      // a message is in a frame above SetMaxFrame: no frame was queued
	AlreadyExpired                // the batch expired before it was offered
)

// Options are the delivery options of a batch. All outboxes that the batch is offered to share
// them. They are static after the first offer.
type Options struct {
	Events   EventHandler // receives the events of the frames; nil: none does
	Expires  int64        // when the frames expire, in ns since 1970; 0: never
	Sender   any          // OverflowDropOldest drops only batches with an equal Sender
	Overflow Overflow
	Last     bool // the outbox accepts no further batch: later offers return Closed

	// Stamp is called, with a lock held, before the whole frames in b are written. left is the
	// time until Expires, in ns, and above 0. Stamp can change b, and can be called again for the
	// same frames. nil: no call.
	Stamp func(b []byte, left int64)
}

// Overflow is the policy of Offer for a full queue.
type Overflow uint8

// The overflow policies.
const (
	OverflowBlock  Overflow = iota // the batch waits for room
	OverflowReject                 // the batch is rejected
	// OverflowDropOldest drops the oldest batches of the same Sender with this policy. Without
	// any such batch, the new batch is rejected.
	OverflowDropOldest
	// OverflowForce queues the batch in any case: the caller must bound the number of such
	// batches.
	OverflowForce
	// OverflowPriority is OverflowForce, and the batch is written before all queued frames, even
	// while the window is full. Its frames must not be reliable.
	OverflowPriority
)

// Event is a step in the delivery of frames.
type Event uint8

// The events. The first three are steps of a delivery; each of the others ends it.
const (
	EventQueued  Event = iota // the frames were blocked and are queued now
	EventWritten              // the connection has accepted the frames
	EventAcked                // the peer has acknowledged the frames: see Outbox.EnableAcks
	EventExpired              // the frames expired before they were written
	EventDropped              // the frames were dropped by OverflowDropOldest
	EventLost                 // the outbox was closed before the frames were written
	// EventUnacked: the frames were written, and not acknowledged before the outbox was closed,
	// or before they expired on a lost connection or in front of a retransmission.
	EventUnacked
	EventUnreachable // the frames were given up: see Outbox.Move
	EventTooLarge    // the limit of the resumed peer is lower: see Outbox.SetMaxFrame
)

// isLoss reports whether the event ends a delivery that has failed, or can have failed.
func (e Event) isLoss() bool { return e > EventAcked }

// EventHandler receives the events of the frames of a batch. Its method can be called
// concurrently, with events in any order, and must not block. While it is called with a failed
// delivery (EventExpired and the events after it), the outbox still holds the bytes of the
// frames, unless Outbox.DropUnacked has dropped them.
type EventHandler interface {
	// HandleEvent reports that an event has happened to consecutive frames of a batch that was
	// offered with Batch.Receiver equal to at. first is the index of the first of them in the
	// batch, counted from Batch.First; frames is their number.
	HandleEvent(at int, what Event, first, frames int)
}

func (o *Options) overflow() Overflow {
	if o == nil {
		return OverflowBlock
	}
	return o.Overflow
}

// Counts counts frames of an outbox.
type Counts struct {
	Frames     int // whole frames
	Deliveries int // the frames that carry a message
	Bytes      int
}

// Add adds other to c.
func (c *Counts) Add(other Counts) {
	c.Frames += other.Frames
	c.Deliveries += other.Deliveries
	c.Bytes += other.Bytes
}
