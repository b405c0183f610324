package client

import "strconv"

// EventKind is the kind of an Event.
type EventKind int

// Kinds of events.
const (
	// EventDisconnected means that the connection was lost. The client tries to reconnect.
	EventDisconnected EventKind = iota

	// EventReconnectFailed means that an attempt to reconnect has failed; Err is the reason, and an
	// *AddressError if the client has several addresses. The next attempt follows after a random
	// delay of at most 20 s, or after the delay that the hub has asked for. If the client has
	// addresses left to try, the next attempt follows at once. An application that gives up calls
	// Close from another goroutine.
	EventReconnectFailed

	// EventResumed means that the client has resumed its session, and no message was lost.
	EventResumed

	// EventNewID means that the client has reconnected with a new session, after the resume
	// window: it has a new id. Messages to the old id that the client had not received are lost.
	// Messages that the client had sent are sent again or have failed, as Options.Resend says.
	// When the hub has restarted, or is a different hub, the ids of all other clients are invalid,
	// except ids that tokens grant: messages to invalid ids have failed.
	EventNewID

	// EventKeptID means that the client has reconnected with a new session under its old id: its hub
	// is gone, and another hub of the cluster serves the client. Messages for the client that were at
	// its hub are lost. Messages that the client had sent are sent again or have failed, as
	// Options.Resend says. The ids of all other clients stay valid.
	EventKeptID

	// EventRefused means that a message without a report was not sent. Either Err is a
	// *RefusedError: the hub refused the message, which cannot happen while the limits of the hub
	// stay the same. Or Err wraps ErrUndeliverable.
	EventRefused

	// EventClosed means that the client has ended; Err is the reason. It is the last event.
	EventClosed
)

var eventNames = [...]string{"disconnected", "reconnect failed", "resumed", "new id", "kept id", "refused", "closed"}

// String returns the name of the kind.
func (k EventKind) String() string {
	if k < 0 || int(k) >= len(eventNames) {
		return "event " + strconv.Itoa(int(k))
	}
	return eventNames[k]
}

// Event is a change of the connection of a client: see Options.OnEvent.
type Event struct {
	Kind EventKind
	ID   uint64 // id of the client after the event
	Addr string // address of the hub of the client after the event, see Client.Addr
	Err  error  // the reason; nil for EventResumed, EventNewID and EventKeptID

	// Attempt is the number of the failed attempt since the client was connected, from 1. It is
	// set for EventReconnectFailed.
	Attempt int

	// Unconfirmed is the number of messages of Send that may not have reached the hub and are not
	// sent again: without Options.Resend those that were unacknowledged, and in any case those to
	// ids that are invalid now. It is set for EventNewID and EventKeptID.
	Unconfirmed int
}
