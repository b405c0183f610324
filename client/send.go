package client

import (
	"context"
	"fmt"
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

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
	if c.isV2() {
		return c.sendV2(ctx, to, message, &noReportOptions, nil)
	}
	if err := c.checkLimits(to, message); err != nil {
		return err
	}
	buffer := body.Get(wire.RelayLen(len(to), len(message)))
	defer buffer.Release()
	frame := wire.AppendRelay(buffer.Bytes()[:0], to, message)
	return c.enqueueBatch(ctx, c.currentConn(), &socket.Batch{Buffer: buffer, To: len(frame), Frames: 1, Deliveries: 1})
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
	case !c.isV2():
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
	if err := c.sendQueue.checkReportTimeout(o.ReportTimeout); err != nil {
		return err
	}
	return c.sendV2(ctx, to, message, &o, &call{receivers: len(to), onReport: onReport})
}

// sendV2 queues a message in version 2. waiter is nil for a message without a report.
func (c *Client) sendV2(ctx context.Context, to []uint64, message []byte, options *SendOptions, waiter *call) error {
	if err := c.checkLimits(to, message); err != nil {
		return err
	}
	if err := c.checkOpen(ctx); err != nil {
		return err
	}
	if err := c.sendQueue.enqueue(ctx, c.closing, to, message, options, waiter); err != nil {
		return err
	}
	c.sendQueue.pumpAndProbe()
	c.ackTimer.arm()
	return nil
}

// checkLimits returns an error if a message exceeds a limit.
func (c *Client) checkLimits(to []uint64, message []byte) error {
	if len(to) > wire.MaxReceivers {
		return &TooManyReceiversError{Receivers: len(to)}
	}
	if maxBody := int(c.maxSendBody.Load()); len(message) > maxBody {
		return &BodyTooLargeError{Size: len(message), Limit: maxBody}
	}
	return nil
}

var flushers = sync.Pool{New: func() any { return new(socket.Flusher) }}

// checkOpen returns an error if ctx has ended or Close was called.
func (c *Client) checkOpen(ctx context.Context) error {
	select {
	case <-c.closing:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// enqueueBatch queues frames to be written on cn, and waits for room until ctx ends.
func (c *Client) enqueueBatch(ctx context.Context, cn *conn, b *socket.Batch) error {
	if err := c.checkOpen(ctx); err != nil {
		return err
	}
	f := flushers.Get().(*socket.Flusher)
	outcome := f.OfferWait(&cn.sock.Outbox, b, ctx.Done())
	flushers.Put(f)
	switch outcome {
	case socket.Queued:
		return nil
	case socket.Blocked:
		return ctx.Err()
	default:
		return c.closedErr()
	}
}
