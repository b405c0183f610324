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
	// An event follows for each receiver of each of them. A transfer with these options can still
	// be sent afterwards.
	Retract(options *outbox.Options)
}

// Remote is the destination of all clients of one other hub. Sender.Send passes a batch to all
// receivers at the same Remote at once, as one Transfer.
type Remote struct{ Peer Peer }

// versionRemote is the Version of a Remote, whose receivers speak either version. By this number,
// Sender.Send tells it apart from other destinations without a look at the type of each of them.
const versionRemote = 0

// Version implements Destination.
func (r *Remote) Version() int { return versionRemote }

// Offer implements Destination. It queues nothing, because a batch does not name its receivers:
// Sender calls Peer.Send instead.
func (r *Remote) Offer(*outbox.Batch, *outbox.Flusher) outbox.Outcome { return outbox.Closed }

// Retract implements Destination. What the other hub has, it expires by itself.
func (r *Remote) Retract(options *outbox.Options) (stillQueued bool) {
	r.Peer.Retract(options)
	return false
}

// Verdicts implements Destination. VERDICTs arrive at the other hub, which decides by them.
func (r *Remote) Verdicts() *Verdicts { return nil }

// Transfer is a batch on its way to receivers at one other hub.
type Transfer struct {
	Origin    uint64         // id of the sender
	Options   Options        // of the messages
	FirstSeq  uint64         // see Messages
	ReadAt    int64          // when this hub has read the messages, in µs since 1970
	ReportBy  time.Time      // until when the REPORTs wait; zero: there are none
	Batch     outbox.Batch   // Buffer, From, To and Frames; Options are those for Peer.Retract, or nil
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
	// HandleEvent is called for what happens on the way: see outbox.EventHandler. EventUnacked:
	// the hub is lost, and perhaps has the messages. EventUnreachable: it certainly has not.
	outbox.EventHandler

	// Decide is called with a fate that the other hub has decided. receiver is the index among
	// all receivers of the message; first is the index of the first message.
	Decide(receiver, first, frames int, fate wire.Fate)
}
