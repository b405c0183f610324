package client

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// How the package is built: calls go in one direction, and each part has its own lock or its own
// goroutine.
//
//	Client ─► reconnector ─► reader ─► session ─► parts ─► conn ─► internal/socket
//
// A reconnector, a session and the parts of a session (inbox, sendQueue, verdicts, presenceCache,
// ackTimer) live as long as the client, a reader and a conn as long as one connection. A part
// calls back only by a function that session.init gives it: to ask for a tick, or for a probe.

// Client is a client of a hub. All methods can be called concurrently, except where callbacks
// of Options say otherwise.
type Client struct {
	session     session
	reconnector reconnector

	closed    chan struct{} // closed when finishClose has returned
	closeOnce sync.Once
}

// ID returns the id by which other clients reach this client. The id changes when the client
// reconnects after the resume window: see EventNewID.
func (c *Client) ID() uint64 { return c.session.id.Load() }

// Addr returns the address of the hub to which the client is connected, or was last: one of those
// in the addr of Dial, as it is written there. It is "" for a client of NewConn.
func (c *Client) Addr() string { return c.session.addr() }

// Version returns the version of the protocol between client and hub: 1 or 2.
func (c *Client) Version() int { return int(c.session.version.Load()) }

// Done returns a channel that is closed when the client has ended: after Close, or when the
// connection is lost and the client does not reconnect.
func (c *Client) Done() <-chan struct{} { return c.session.life.Done() }

// Err returns why the client has ended, and nil before. After Close it is ErrClosed, unless the
// client had ended before with another error.
func (c *Client) Err() error { return c.session.life.Err() }

// Stats returns the current counters. They stay readable after the client has ended.
func (c *Client) Stats() Stats { return c.session.counts.stats() }

// Send sends message to every client in to. The hub skips ids that are not connected. An id
// that is in to twice gets the message twice. The client can send to itself.
//
// Send returns when the message is queued. While the queue holds Options.MaxQueued bytes, Send
// waits until ctx ends; nothing of the message is sent then. In version 2 the queue includes
// messages that the hub has not acknowledged because receivers are slow, and the queue outlives
// a lost connection.
//
// The caller owns to and message, and can change both when Send has returned.
//
// The errors are *TooManyReceiversError, *BodyTooLargeError, the error of ctx, ErrSessionLost
// when the hub restarted while Send waited, and the reason why the client has ended: see Err.
func (c *Client) Send(ctx context.Context, to []uint64, message []byte) error {
	if c.session.isV2() {
		return c.sendV2(ctx, to, message, &noReportOptions, nil)
	}
	if err := c.checkLimits(to, message); err != nil {
		return err
	}
	buffer := body.Get(wire.RelayLen(len(to), len(message)))
	defer buffer.Release()
	frame := wire.AppendRelay(buffer.Bytes()[:0], to, message)
	if err := c.session.life.checkOpen(ctx); err != nil {
		return err
	}
	err := c.session.conns.current().enqueue(ctx, &outbox.Batch{Buffer: buffer, To: len(frame), Frames: 1, Messages: true})
	if err == ErrConnectionLost {
		return c.session.life.closedErr()
	}
	return err
}

// SendReport sends a message like Send and waits for its delivery report. The hub sends the
// report when the message has reached options.Level for every receiver that it can still reach,
// or after SendOptions.ReportTimeout. nil options mean the defaults.
//
// When ctx ends first, SendReport returns its error, and the message may still be sent. The
// report comes behind messages that the hub sent before. Another goroutine must receive those,
// or the report cannot be read: do not call SendReport in the goroutine that calls Receive, or
// in a callback.
//
// The errors are those of Send, ErrVersion in version 1, *ReportTimeoutTooLongError,
// ErrSessionLost, ErrUndeliverable, and *RefusedError when the hub refuses the message.
func (c *Client) SendReport(ctx context.Context, to []uint64, message []byte, options *SendOptions) (*Report, error) {
	type outcome struct {
		report *Report
		err    error
	}
	reported := make(chan outcome, 1)
	err := c.SendFunc(ctx, to, message, options, func(r *Report, err error) { reported <- outcome{r, err} })
	if err != nil {
		return nil, err
	}
	select {
	case o := <-reported:
		return o.report, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("client: wait for the report: %w", ctx.Err())
	}
}

// SendFunc is like SendReport but does not wait for the report: it returns like Send. If
// SendFunc returns nil, onReport is called exactly once, with the report or with an error,
// possibly before SendFunc has returned. If SendFunc returns an error, onReport is not called.
//
// onReport is called by the read goroutine, by the goroutine that closes the client, or, when
// the message has expired in the client, by a goroutine of its own. onReport must neither wait
// for the hub nor call Close.
func (c *Client) SendFunc(ctx context.Context, to []uint64, message []byte, options *SendOptions, onReport func(*Report, error)) error {
	switch {
	case onReport == nil:
		return errNilCallback
	case !c.session.isV2():
		return ErrVersion
	}
	var o SendOptions
	if options != nil {
		o = *options
	}
	if o.Level == wire.LevelNone {
		o.Level = wire.LevelReceived
	}
	if err := o.validate(); err != nil {
		return err
	}
	if err := c.session.sendQueue.checkReportTimeout(o.ReportTimeout); err != nil {
		return err
	}
	return c.sendV2(ctx, to, message, &o, &call{receivers: len(to), onReport: onReport})
}

// sendV2 queues a message in version 2. waiter is nil for a message without a report.
func (c *Client) sendV2(ctx context.Context, to []uint64, message []byte, options *SendOptions, waiter *call) error {
	s := &c.session
	if err := c.checkLimits(to, message); err != nil {
		return err
	}
	if err := s.life.checkOpen(ctx); err != nil {
		return err
	}
	if err := s.sendQueue.enqueue(ctx, s.life.closing, to, message, options, waiter); err != nil {
		return err
	}
	s.sendQueue.pumpAndProbe()
	s.ackTimer.arm()
	return nil
}

// checkLimits returns an error if a message exceeds a limit.
func (c *Client) checkLimits(to []uint64, message []byte) error {
	if len(to) > wire.MaxReceivers {
		return &TooManyReceiversError{Receivers: len(to)}
	}
	if maxBody := int(c.session.maxSendBody.Load()); len(message) > maxBody {
		return &BodyTooLargeError{Size: len(message), Limit: maxBody}
	}
	return nil
}

// Receive returns the next message. It waits until ctx ends or the client has ended. Messages
// that have arrived are returned even then. The caller owns Message.Body: see Message. Receive
// can be called concurrently; each message goes to one caller. A call of Receive acknowledges
// the messages of earlier calls as received.
//
// The errors are the error of ctx, and the reason why the client has ended: see Err.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	return c.session.inbox.receive(ctx)
}

// Messages returns an iterator over the messages as they arrive. The last pair has an error:
// that of ctx, or the reason why the client has ended. Messages receives like Receive. Breaking
// out of the loop loses no message.
func (c *Client) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			var m Message
			err := ctx.Err()
			if err == nil {
				m, err = c.session.inbox.receive(ctx)
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// List returns the ids of all other connected clients in ascending order. It waits for the
// reply of the hub until ctx ends, and sends the request again after a reconnect.
//
// The reply comes behind messages that the hub sent before. The client reads it only if the
// application receives those messages, and cannot read it while OnMessage or OnEvent runs.
//
// The errors are the error of ctx, and the reason why the client has ended: see Err.
func (c *Client) List(ctx context.Context) ([]uint64, error) {
	return request(ctx, &c.session, listWaiters, wire.AppendListRequest)
}

// ListPage returns the ids above after in ascending order: at most limit ids, and never more
// than 8,192. limit 0 means 8,192. To list any number of clients, pass the last id of a page as
// after of the next call. ListPage waits and fails like List. In version 1 its error is
// ErrVersion.
func (c *Client) ListPage(ctx context.Context, after uint64, limit int) (Page, error) {
	if !c.session.isV2() {
		return Page{}, ErrVersion
	}
	if limit < 0 || limit > wire.MaxPageIDs {
		return Page{}, fmt.Errorf("client: limit is %d, must be from 0 to %d", limit, wire.MaxPageIDs)
	}
	return request(ctx, &c.session, pageWaiters, func(b []byte) []byte {
		return wire.AppendListRange(b, wire.ListRange{After: after, Limit: uint32(limit)})
	})
}

// Ping sends a PING to the hub and returns the time until the PONG, counted from the last
// attempt to send it. Ping waits and fails like List. In version 1 its error is ErrVersion.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	if !c.session.isV2() {
		return 0, ErrVersion
	}
	begin := time.Now()
	_, err := request(ctx, &c.session, pingWaiters, func(b []byte) []byte {
		begin = time.Now()
		return wire.AppendPing(b, 0)
	})
	return time.Since(begin), err
}

// Watch returns an iterator over the connected clients. It first yields all of them, this
// client included, and then each change. The hub collects changes for 100 ms. While the loop
// body runs, the client collects further changes; a client that joins and leaves in this time
// is not yielded. The iterator continues after a reconnect.
//
// When the hub has restarted, or is a different hub, the iterator yields all clients as left,
// and then the connected clients, because the same id can be another client.
//
// The last pair has an error: the error of ctx, the reason why the client has ended (see Err),
// or ErrVersion in version 1. The error wraps ErrWatchForbidden if the client lacks the
// permission, and ErrTooManyWatchers if the hub has its maximum number of watchers, which can
// also happen after a reconnect.
func (c *Client) Watch(ctx context.Context) iter.Seq2[Presence, error] {
	return func(yield func(Presence, error) bool) {
		if !c.session.isV2() {
			yield(Presence{}, ErrVersion)
			return
		}
		w := c.session.presence.addWatcher()
		defer c.session.presence.removeWatcher(w)
		for {
			p, err := c.session.presence.next(ctx, w)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}
