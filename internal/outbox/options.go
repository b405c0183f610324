package outbox

// Options are the delivery options of a batch. All outboxes that the batch is offered to share
// them. They are static after the first offer.
type Options struct {
	Events   EventHandler // receives the events of the frames; nil: none does
	Expires  int64        // when the frames expire, in ns since 1970; 0: never
	Sender   uint64       // id of the sender: OverflowDropOldest drops only batches with an equal Sender
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

// overflow returns the policy of batches with these options.
func (o *Options) overflow() Overflow {
	if o == nil {
		return OverflowBlock
	}
	return o.Overflow
}
