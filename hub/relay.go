package hub

import (
	"errors"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/local"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// newRelay returns the Relay of h.
func newRelay(h *Hub) *relay.Relay {
	config := relay.Config{
		Find:             h.findDestinations,
		IsLost:           h.isLost,
		ReportTimeout:    h.config.ReportTimeout,
		MaxReportTimeout: h.config.MaxReportTimeout,
		OnDrop:           func(fate wire.Fate, n int) { h.counters.recordDrop(dropReasonOf(fate), n) },
		OnForbidden: func(o relay.Origin, to uint64) {
			h.limitedLog.LogWarn("send forbidden", "reason", "forbidden", "client", o.ID(), "receiver", to)
		},
		OnLatency: h.config.OnLatency,
		Traces:    relay.TraceConfig{SampleRate: h.config.TraceSampleRate, Timeout: h.config.ReportTimeout, Timers: &h.conns.running},
		Timers:    &h.conns.running,
	}
	if h.config.OnTrace != nil {
		config.Traces.OnTrace = func(t relay.Trace) bool { return h.config.OnTrace(newTrace(t)) }
	}
	return relay.New(config)
}

// newSenders returns what Hub.Send sends with.
func newSenders(h *Hub) *local.Senders {
	return local.NewSenders(local.SenderConfig{
		Relay:      h.relay,
		NewAccount: func() *body.Account { return h.bodies.NewAccount(h.maxPerSender) },
		Credit:     h.config.Credit,
		MaxReports: h.config.MaxReports,
		RequestAcks: func(to []uint64) {
			for _, id := range to {
				requestAck(h.find(id))
			}
		},
		OnSend:   func(receivers int) { h.counters.recordSend(receivers) },
		Offering: &h.conns.reading, Running: &h.conns.running,
		Closing: h.closing, ErrClosed: ErrClosed,
	})
}

// origin is a connection as the origin of messages.
type origin struct{ conn *conn }

// ID implements relay.Origin. The id stays the same once the client has sent a message.
func (o origin) ID() uint64 { return o.conn.id.Load() }

// CanSend implements relay.Origin.
func (o origin) CanSend() func(to uint64) bool { return o.conn.sendRule() }

// SendReports implements relay.Origin. Only SENDs request reports, and only version 2 has them.
func (o origin) SendReports(frames []byte, n int) { o.conn.session().sendReports(frames, n) }

// destination is a connection as the destination of messages. When the session moves to another
// connection, its outbox passes what it is offered on to that of the other.
type destination struct{ conn *conn }

// Version implements relay.Destination.
func (d destination) Version() int {
	if d.conn.v2.Load() == nil {
		return 1
	}
	return wire.Version2
}

// Offer implements relay.Destination.
func (d destination) Offer(batch *outbox.Batch, fl *outbox.Flusher) outbox.Outcome {
	return d.conn.sock.Offer(batch, fl)
}

// Retract implements relay.Destination.
func (d destination) Retract(options *outbox.Options) (stillQueued bool) {
	return d.conn.sock.Retract(options)
}

// Verdicts implements relay.Destination.
func (d destination) Verdicts() *relay.Verdicts {
	if s := d.conn.session(); s != nil {
		return &s.verdicts
	}
	return nil
}

// closeReplaced ends the destination that another one has replaced in the registry, if there is
// one: both were granted the id.
func closeReplaced(dest relay.Destination) {
	switch d := dest.(type) {
	case destination:
		d.conn.requestClose(&goAway{code: wire.GoAwayTakenOver, reason: CloseTakenOver, err: errors.New("another connection was granted this id")})
	case *subscriber:
		d.Stop(ErrTakenOver)
	}
}

// connOf returns the connection of a destination, or nil if it has none.
func connOf(dest relay.Destination) *conn {
	if d, ok := dest.(destination); ok {
		return d.conn
	}
	return nil
}
