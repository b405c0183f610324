package outbox

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
// frames, with three exceptions: Outbox.DropUnacked has dropped them, the peer had them whole
// before it resumed, or Retract finds them written on a connection that is lost.
type EventHandler interface {
	// HandleEvent reports that an event has happened to consecutive frames of a batch that was
	// offered with Batch.Receiver equal to at. first is the index of the first of them in the
	// batch, counted from Batch.First; frames is their number.
	HandleEvent(at int, what Event, first, frames int)
}
