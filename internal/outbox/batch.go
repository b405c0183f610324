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
