// Package relay passes messages from their origin to their destinations. It finds the
// destinations of a batch of messages, offers the batch to each of them, and translates it for
// those that speak the other version of the protocol. It tracks the delivery to each receiver,
// makes the REPORTs, and samples latencies and traces.
//
// It does not know what an origin or a destination is: a connection, a subscriber in the
// process, or another node. It does not read frames and never waits: the sending goroutine
// decides what to do while receivers have no room.
//
// On the path of a message, the package comes between the connection that has read it and the
// outboxes of its receivers. The events of the outboxes come back to it.
package relay

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// Origin is where messages come from. Its methods can be called concurrently, and must not
// block.
type Origin interface {
	// ID returns the id that receivers see as the sender. It must not change while a message
	// of the origin is tracked.
	ID() uint64

	// CanSend returns a function that reports whether the origin is permitted to send to a
	// receiver. nil means that it is permitted to send to all of them.
	CanSend() func(to uint64) bool

	// SendReports sends n REPORTs to the origin. It takes over frames.
	SendReports(frames []byte, n int)
}

// Destination is what the id of a receiver stands for. Values are comparable. Its methods can be
// called concurrently, and must not block.
type Destination interface {
	// Version returns the version of the protocol that the receiver speaks: 1 or 2. Only a Remote
	// returns 0.
	Version() int

	// Offer queues a batch for the receiver: see outbox.Outbox.Offer.
	Offer(batch *outbox.Batch, fl *outbox.Flusher) outbox.Outcome

	// Retract removes expired batches with these options: see outbox.Outbox.Retract.
	Retract(options *outbox.Options) (stillQueued bool)

	// Verdicts returns where the VERDICTs of the receiver arrive, or nil in version 1, which has
	// none.
	Verdicts() *Verdicts
}

// Config holds the settings of a Relay. All fields but IsLost, OnLatency and Traces are
// required.
type Config struct {
	// Find stores the destination of ids[i] in found[i], or nil if there is none. found is as
	// long as ids. The destination of a client of another hub is a *Remote.
	Find func(ids []uint64, found []Destination)

	// IsLost reports whether an id without a destination belongs to a client of a hub that cannot
	// be reached. nil: there is no other hub.
	IsLost func(id uint64) bool

	// ReportTimeout is how long a REPORT waits for its last fate, unless the message names a
	// timeout, which is at most MaxReportTimeout.
	ReportTimeout, MaxReportTimeout time.Duration

	// OnDrop is called with the number of messages that were not queued for a receiver, once for
	// all batches of Sender.Reset, by fate: unknown, refused, gone, unreachable or too large.
	OnDrop func(fate wire.Fate, messages int)

	// OnForbidden is called when an origin is not permitted to send to a receiver, once per batch
	// with the last of these receivers.
	OnForbidden func(origin Origin, to uint64)

	// OnLatency receives the sampled latencies of deliveries; nil: none is sampled.
	OnLatency func(time.Duration)

	Traces TraceConfig

	// Timers counts the timers that run.
	Timers *sync.WaitGroup
}

// Relay holds what all Senders have in common: settings, traces and statistics.
type Relay struct {
	config Config
	traces tracer
	fates  [wire.MaxFate + 1]atomic.Uint64 // fates that were decided, one per receiver
}

// New returns a Relay.
func New(config Config) *Relay { return &Relay{config: config, traces: tracer{config: config.Traces}} }

// Fates returns how many fates were decided, one per receiver of a message whose report was
// requested. Of tracked messages without a report, only failed deliveries are counted. The hub of
// the sender counts the fates of all receivers, wherever they are. A fate that never occurred is
// absent.
func (r *Relay) Fates() map[wire.Fate]uint64 {
	counts := make(map[wire.Fate]uint64)
	for fate := range r.fates {
		if n := r.fates[fate].Load(); n > 0 {
			counts[wire.Fate(fate)] = n
		}
	}
	return counts
}

// TracesDropped returns how many sampled messages were not traced, because too many traces were
// open or OnTrace returned false.
func (r *Relay) TracesDropped() uint64 { return r.traces.dropped.Load() }

// countFate counts n fates that were decided.
func (r *Relay) countFate(fate wire.Fate, n int) { r.fates[fate].Add(uint64(n)) }

// Messages describes the messages of a batch.
type Messages struct {
	Origin  Origin
	Options Options

	// FirstSeq is the seq of the first message if Options.IsSend is set. The seqs of further
	// messages follow without a gap if the messages are tracked.
	FirstSeq uint64

	// The following are for messages that another hub has sent.

	// FromHub says that another hub has sent the messages. A receiver that is at a third hub has
	// left this one, and is gone: while the hubs do not agree where a client is, a batch could go
	// round in circles. No rule of the origin holds: its hub has checked them.
	FromHub bool

	// OnBlocked is called for each receiver that blocks the batch. What it returns is called once
	// that receiver does not any more. Send then reports that the batch is not blocked. nil: the
	// Flusher of the Sender counts the blocked sends.
	OnBlocked func(receiver int) (onUnblocked func())

	// ReadAt is Transfer.ReadAt, in µs since 1970. 0: the time of Sender.ReadAt.
	ReadAt int64

	// ReportTimeout is how long the REPORTs wait, so that they end with those of the other hub. 0:
	// as Options say.
	ReportTimeout time.Duration
}

// version returns the version of the protocol in which the messages are.
func (m *Messages) version() int {
	if m.Options.IsSend {
		return wire.Version2
	}
	return 1
}

// reportTimeout returns how long the REPORTs of the messages can wait for their fates. If the
// messages of another hub expire a moment later, it is until then: that hub has perhaps given one
// time for both, and waits for remoteGrace longer.
func (m *Messages) reportTimeout(config *Config) time.Duration {
	if m.ReportTimeout == 0 {
		return m.Options.reportTimeout(config)
	}
	if m.Options.Expires != 0 {
		if left := time.Until(time.Unix(0, m.Options.Expires)); left <= m.ReportTimeout+remoteGrace/2 {
			return left
		}
	}
	return m.ReportTimeout
}

// Options is what the messages of a batch have in common beside their receivers. The zero value
// is for messages of version 1.
type Options struct {
	IsSend  bool // the frames are DELIVERs of version 2, made from SENDs
	Wire    wire.Options
	Expires int64 // in ns since 1970; 0: never
}

// Tracked reports whether the messages need a Tracker: for their reports, their overflow policy,
// or their expiry.
func (o Options) Tracked() bool {
	return o.Wire.Level() != wire.LevelNone || o.Wire.Overflow() != wire.OverflowBlock || o.Expires != 0
}

// Unbatchable reports whether each message must be a batch of its own, because it gets a verdict
// of its own, or can be dropped alone.
func (o Options) Unbatchable() bool {
	return o.Wire.Level() == wire.LevelProcessed || o.Wire.Overflow() == wire.OverflowDropOldest
}

// reportTimeout returns how long the REPORT of a message can wait for its fates.
func (o Options) reportTimeout(config *Config) time.Duration {
	timeout := config.ReportTimeout
	if requested := o.Wire.ReportTimeout(); requested > 0 {
		timeout = min(requested, config.MaxReportTimeout)
	}
	if o.Expires != 0 {
		timeout = min(timeout, time.Until(time.Unix(0, o.Expires)))
	}
	return timeout
}

// DeliverFlags returns the flags of the DELIVERs of messages with these options.
func (o Options) DeliverFlags() (f wire.DeliverFlags) {
	switch o.Wire.Level() {
	case wire.LevelReceived:
		f = wire.DeliverWantAck
	case wire.LevelProcessed:
		f = wire.DeliverWantAck | wire.DeliverWantVerdict
	}
	return f
}
