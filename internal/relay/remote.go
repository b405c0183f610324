package relay

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// Peer is another hub, which passes messages on to its clients. Its methods can be called
// concurrently.
type Peer interface {
	// Send passes a batch on to receivers that are clients of the peer. It does not block, and
	// retains t.Batch.Buffer as long as it needs the bytes. t belongs to the peer afterwards.
	Send(t *Transfer)

	// Retract removes what has expired of the transfers with these options and was not sent yet.
	// An event follows for each receiver of each of them.
	Retract(options *outbox.Options)
}

// Remote is the destination of all clients of one other hub. Sender.Send offers a batch to all
// receivers at the same Remote at once, as one Transfer.
type Remote struct{ Peer Peer }

// Transfer is a batch on its way to receivers at one other hub.
type Transfer struct {
	Origin    uint64         // id of the sender
	Options   Options        // of the messages
	FirstSeq  uint64         // see Messages
	ReadAt    int64          // when this hub has read the messages, in µs since 1970
	ReportBy  time.Time      // until when the REPORTs wait; zero: there are none
	Batch     outbox.Batch   // Buffer, From, To and Frames; Options are those for Peer.Retract
	Receivers []TransferTo   // in the order of the message
	Queued    *outbox.Waiter // Done is called once, when no receiver blocks the transfer any more

	// Events receives what happens to the messages; nil: nothing needs it.
	Events TransferEvents
}

// TransferTo is one receiver of a Transfer.
type TransferTo struct {
	ID    uint64
	Index int // among all receivers of the message
}

// TransferEvents receives what happens to the messages of a Transfer. Its methods can be called
// concurrently, in any order, and do not block.
type TransferEvents interface {
	// HandleEvent is called for what happens on the way: see outbox.EventHandler.
	outbox.EventHandler

	// Decide is called with a fate that the other hub has decided. receiver is the index among
	// all receivers of the message; first is the index of the first message.
	Decide(receiver, first, frames int, fate wire.Fate)
}
