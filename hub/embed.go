package hub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/sechlol/go-message-hub/internal/local"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// Errors of Send and Subscribe, possibly wrapped.
var (
	// ErrIDInUse means that the id of a Subscription belongs to another one, or to a client.
	ErrIDInUse = errors.New("id in use")

	// ErrTakenOver means that a client was granted the id of the Subscription.
	ErrTakenOver = errors.New("a client was granted this id")

	// ErrDisconnected means that Disconnect was called for the Subscription.
	ErrDisconnected = errors.New("disconnected by the operator")

	// ErrUnsubscribed means that the Subscription was closed.
	ErrUnsubscribed = errors.New("subscription closed")

	// ErrStalled means that the Subscription has received nothing while senders waited: see
	// Config.StallTimeout.
	ErrStalled = outbox.ErrStalled

	// ErrSlow means that the Subscription was slow while it held memory for which clients waited:
	// see Config.MinRate.
	ErrSlow = errors.New("subscription too slow")

	// ErrInvalidMessage means that a message, or one of its options, is out of range. Nothing was
	// sent.
	ErrInvalidMessage = errors.New("invalid message")
)

// SendOptions configure how one message is sent. The zero value of each field means its default.
type SendOptions struct {
	// Level is the level that the message must reach for each receiver before the report is made.
	// Default: wire.LevelNone, which means no report.
	Level wire.Level

	// TTL is the time to live of the message, from the call on, and at most 49 days. When TTL is
	// over, the message is not written to any more receivers, and the report is made. Default: no
	// limit.
	TTL time.Duration

	// ReportTimeout is how long the report waits for the last receiver, rounded up to a multiple of
	// 100 ms. Default: Config.ReportTimeout. Maximum: Config.MaxReportTimeout.
	ReportTimeout time.Duration

	// Overflow is the overflow policy for receivers whose queue is full. Default:
	// wire.OverflowBlock.
	Overflow wire.Overflow
}

// maxTTL is the largest TTL that a client can name: 2³²-1 ms.
const maxTTL = (1<<32 - 1) * time.Millisecond

// check returns an error that names the first option that is out of range.
func (o *SendOptions) check(maxReportTimeout time.Duration) error {
	switch {
	case o.Level > wire.LevelProcessed:
		return fmt.Errorf("%w: there is no level %d", ErrInvalidMessage, o.Level)
	case o.Overflow > wire.OverflowDropOldest:
		return fmt.Errorf("%w: there is no overflow policy %d", ErrInvalidMessage, o.Overflow)
	case o.TTL < 0 || o.TTL > maxTTL:
		return fmt.Errorf("%w: TTL is %v, must be from 0 to %v", ErrInvalidMessage, o.TTL, maxTTL)
	case o.ReportTimeout < 0 || o.ReportTimeout > maxReportTimeout:
		return fmt.Errorf("%w: ReportTimeout is %v, must be from 0 to %v", ErrInvalidMessage, o.ReportTimeout, maxReportTimeout)
	}
	return nil
}

// Report is the delivery report of a message.
type Report struct {
	Seq   uint64      // number of the message: it increases with each message of Send
	Fates []wire.Fate // one for each receiver, in the order of to
}

// Send sends body to every client in to, as a message of from, without a connection. The
// receivers see from as the sender; it is any id but 0, such as that of a Subscription, which
// then gets the replies. A client with the id from is not affected.
//
// The rules are those for a client of version 2. Messages with the same from keep their order at
// each receiver; the order of concurrent calls is undefined. An id that is in to twice gets the
// message twice. Send waits while Config.Credit bytes of from are in flight because receivers are
// slow, while Config.MaxReports messages of from wait for their report, and while the bodies of
// from hold their part of Config.MaxQueuedBytes. The rate limits of clients do not apply.
//
// nil options mean the defaults. Without a level, Send returns when the message is offered to all
// receivers, and the report is nil. With a level, Send waits for the report. To send more messages
// meanwhile, call Send in several goroutines.
//
// Send returns the error of ctx when ctx ends. If Send was still waiting to send, nothing is sent.
// If it was waiting for the report, the message is on its way. The other errors are
// ErrInvalidMessage, for a body above Config.MaxBody or more than wire.MaxReceivers receivers for
// example, and ErrClosed after Shutdown was called. Unknown receivers are no error: their fate is
// unknown.
//
// The caller owns to and body, and can change both when Send has returned.
func (h *Hub) Send(ctx context.Context, from uint64, to []uint64, body []byte, options *SendOptions) (*Report, error) {
	if options == nil {
		options = new(SendOptions)
	}
	if err := options.check(h.config.MaxReportTimeout); err != nil {
		return nil, err
	}
	switch {
	case from == 0:
		return nil, fmt.Errorf("%w: the sender has no id", ErrInvalidMessage)
	case len(to) > wire.MaxReceivers:
		return nil, fmt.Errorf("%w: %d receivers, the maximum is %d", ErrInvalidMessage, len(to), wire.MaxReceivers)
	case len(body) > h.config.MaxBody:
		return nil, fmt.Errorf("%w: body of %d bytes exceeds the limit of %d", ErrInvalidMessage, len(body), h.config.MaxBody)
	}
	message := local.Send{
		From: from, To: to, Body: body,
		Options: wire.MakeOptions(options.Level, options.Overflow).WithReportTimeout(options.ReportTimeout),
	}
	if options.TTL > 0 {
		message.Expires = time.Now().Add(options.TTL).UnixNano()
	}
	report, err := h.senders.Send(ctx, &message)
	if err != nil || options.Level == wire.LevelNone {
		return nil, err
	}
	return &Report{Seq: report.Seq, Fates: report.Fates}, nil
}

// Message is a message that a Subscription has received.
type Message struct {
	// Body belongs to the caller. Small bodies that arrived together share memory: clone a body
	// that is kept for long.
	Body []byte

	From uint64    // id of the sender
	Seq  uint64    // number that the sender gave the message; 0 if it speaks version 1
	Time time.Time // when the hub had read the message, in µs resolution

	receiver *local.Receiver
}

// Ack tells the sender that the application has processed the message. It does nothing if the
// sender did not request wire.LevelProcessed. It can be called by any goroutine, does not block,
// and has no effect after the Subscription has ended.
func (m Message) Ack() { m.receiver.Verdict(m.From, m.Seq, wire.FateProcessed) }

// Nak tells the sender that the application rejects the message, with wire.FateRejected. The hub
// does not deliver the message again. Nak is otherwise like Ack. Only the first verdict on a
// message counts.
func (m Message) Nak() { m.receiver.Verdict(m.From, m.Seq, wire.FateRejected) }

// Subscription receives the messages to one id, in the process of the hub and without a
// connection. For all clients it is a client of version 2: it is in their lists, and each message
// has a fate for it. A message is written when it is in the inbox of the Subscription, which holds
// up to 64 KiB and one message, and received when Receive returns it.
//
// The hub queues messages for a Subscription as for a client: see Config.OutboxBytes. When the
// queue is full, senders wait, and a Subscription that receives nothing meanwhile ends after
// Config.StallTimeout. All methods can be called concurrently.
type Subscription struct{ sub *subscriber }

// Subscribe returns a Subscription of id. With id 0, the hub assigns an id that no client of any
// start of this hub has had.
//
// Other ids are from 1 to MaxGrantedID. If the hub does not authenticate its clients, it assigns
// small ids to those of version 1, from 1 on, and omits those with a Subscription; ErrIDInUse
// means that it has assigned the id already. If it authenticates them, the id can be granted to a
// client as well: of a client and a Subscription, the one that came last has it. Two Subscriptions
// cannot have the same id at the same time: ErrIDInUse.
//
// Subscriptions do not count towards Config.MaxClients. They end with Close, and with Shutdown,
// which waits until they have received what is queued for them, or have received nothing for
// Config.StallTimeout. Subscribe returns ErrClosed after Shutdown was called.
func (h *Hub) Subscribe(id uint64) (*Subscription, error) {
	id, err := h.subscribers.assignID(h, id)
	if err != nil {
		return nil, err
	}
	s := &subscriber{Receiver: local.NewReceiver(&h.subscribers.config), hub: h, id: id, since: time.Now(), ended: make(chan struct{})}
	if err := h.subscribers.add(s); err != nil {
		return nil, err
	}
	return &Subscription{s}, nil
}

// ID returns the id that the Subscription receives for.
func (s *Subscription) ID() uint64 { return s.sub.id }

// Receive returns the next message. It waits until ctx ends or the Subscription has ended. Each
// message goes to one caller. The errors are the error of ctx, and the reason for which the
// Subscription has ended: ErrUnsubscribed, ErrClosed when the hub was shut down, ErrStalled,
// ErrSlow, ErrTakenOver, or ErrDisconnected.
func (s *Subscription) Receive(ctx context.Context) (Message, error) {
	m, err := s.sub.Receive(ctx)
	if err != nil {
		return Message{}, err
	}
	return Message{Body: m.Body, From: m.Sender, Seq: m.Seq, Time: time.UnixMicro(int64(m.Time)), receiver: s.sub.Receiver}, nil
}

// Messages returns an iterator over the messages as they arrive. The last pair has an error, as
// Receive returns it. Breaking out of the loop loses no message.
func (s *Subscription) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := s.Receive(ctx)
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the Subscription. Messages that Receive has not returned are lost: their fate is
// gone, or uncertain if they were in the inbox. When Close returns, the id is in no list any more.
// Close can be called more than once. It returns nil.
func (s *Subscription) Close() error {
	s.sub.Stop(ErrUnsubscribed)
	<-s.sub.ended
	return nil
}
