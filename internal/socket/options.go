package socket

// Options are what a piece asks for beyond being sent. They are shared by all
// outboxes that it is offered to, and static from then on.
type Options struct {
	Events   EventHandler // told what becomes of it; nil: nobody
	Expires  int64        // when it is worth nothing any more, in ns since 1970; 0: never
	Sender   any          // whose pieces give way to it if Overflow is Displace: those with an equal Owner
	Overflow Overflow
	Last     bool // nothing is taken after it: to what is offered then, the outbox is closed

	// Stamp is called, with a lock held, before the whole frames in b are written: left is how much time
	// there is until Expires, in ns, above 0. It may change b, and be called again for the same. nil: nobody wants that.
	Stamp func(b []byte, left int64)
}

// Overflow says what Offer does when the queue is full.
type Overflow uint8

// The ways to meet a full queue.
const (
	OverflowBlock      Overflow = iota // it waits for room
	OverflowReject                     // it is not taken
	OverflowDropOldest                 // the oldest pieces of its owner that are to be displaced give way; without any it is not taken
	OverflowForce                      // it is taken all the same: somebody else must bound how much of that there is
	OverflowPriority                   // so is it, and it is written before all that is queued, also while that must wait for the peer; its frames must not be counted
)

// Event is what became of frames of a tracked piece.
type Event uint8

// The kinds of progress. The first three are steps; each of the others is an end
// without a further one.
const (
	EventQueued      Event = iota // they were parked, and are queued now
	EventWritten                  // the connection took them
	EventAcked                    // the peer has acknowledged them: see Outbox.EnableAcks
	EventExpired                  // their time was up before they were written
	EventDropped                  // they gave way
	EventLost                     // the outbox was closed before they were written
	EventUnacked                  // it was closed after that, and before they were acknowledged
	EventUnreachable              // they were begun on several connections, and given up: see Outbox.Move
	EventTooLarge                 // the peer has come back and takes less: see Outbox.SetMaxFrame
)

// EventHandler is told what becomes of the frames of a piece. Its methods may be called
// concurrently, in any order, and must not block.
type EventHandler interface {
	// HandleEvent says that so many frames of what was offered as Batch.Receiver came that far:
	// those from first on, where 0 is the first of the piece.
	HandleEvent(at int, what Event, first, frames int)
}

// pendingEvent is a call of a Tracker that is still to be made, when no lock is held.
type pendingEvent struct {
	options  *Options
	receiver int
	event    Event
	first    int
	frames   int
}

func emitEvents(events []pendingEvent) {
	for _, e := range events {
		e.options.Events.HandleEvent(e.receiver, e.event, e.first, e.frames)
	}
}

// appendEvent adds an event about the first frames of s if somebody wants to know.
func (s *segment) appendEvent(events []pendingEvent, event Event, frames int) []pendingEvent {
	if s.options == nil || s.options.Events == nil || frames == 0 {
		return events
	}
	return append(events, pendingEvent{s.options, int(s.receiver), event, int(s.first), frames})
}

// expires reports whether s may expire. What the peer has read does not.
func (s *segment) expires() bool {
	return s.options != nil && s.options.Expires != 0 && !s.isSkips()
}

// expired reports whether it is no use any more to send s.
func (s *segment) expired(now int64) bool {
	return s.expires() && now >= s.options.Expires
}

func (o *Options) overflow() Overflow {
	if o == nil {
		return OverflowBlock
	}
	return o.Overflow
}
