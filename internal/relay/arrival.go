package relay

import "github.com/sechlol/go-message-hub/internal/outbox"

// Arrival follows a batch that another hub has sent. Its methods can be called concurrently, and
// must not block. Events of a receiver can come before its Offered.
type Arrival interface {
	// HandleEvent is called for each later event, before the Tracker has it: see
	// outbox.EventHandler.
	outbox.EventHandler

	// Offered is called once for each receiver, by Sender.Send. outbox.Closed: there is no such
	// receiver, or it has left. After outbox.Blocked, each message has EventQueued or an event
	// that ends its delivery: so has a batch of which only parts are queued, because the receiver
	// does not accept a message of that size.
	Offered(receiver int, outcome outbox.Outcome)
}

// partEvents holds the event of a part of a batch after its offer. The event of a blocked part
// follows, and a part that is too large is divided or recorded by itself.
var partEvents = map[outbox.Outcome]outbox.Event{
	outbox.Queued:         outbox.EventQueued,
	outbox.Closed:         outbox.EventLost,
	outbox.Full:           outbox.EventDropped,
	outbox.AlreadyExpired: outbox.EventExpired,
}

// offered passes the outcome for a whole batch on to the Arrival.
func (r *recorders) offered(b *outbox.Batch, outcome outbox.Outcome) {
	if r.arrival == nil {
		return
	}
	if outcome == outbox.TooLarge && b.Frames > 1 {
		outcome = outbox.Blocked // until all of its parts were offered
	}
	r.arrival.Offered(b.Receiver, outcome)
}

// partOffered passes the outcome for a part of a batch on to the Arrival.
func (r *recorders) partOffered(b *outbox.Batch, outcome outbox.Outcome) {
	if r.arrival == nil {
		return
	}
	event, ok := partEvents[outcome]
	if outcome == outbox.TooLarge && b.Frames == 1 {
		event, ok = outbox.EventTooLarge, true
	}
	if ok {
		r.arrival.HandleEvent(b.Receiver, event, b.First, b.Frames)
	}
}

// removeRemotes sets to nil the dests at other hubs. A batch that has come from another hub goes
// to no third one: while the hubs do not agree where a client is, it could go round in circles.
func removeRemotes(dests []Destination) {
	for i, dest := range dests {
		if _, ok := dest.(*Remote); ok {
			dests[i] = nil
		}
	}
}
