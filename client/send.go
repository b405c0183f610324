package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// Send hands body to every client in to. An id that is not connected is skipped
// by the hub, one that stands there twice gets the body twice, and the client
// may name itself.
//
// Send returns when the message is in line to be written: it waits while
// Options.MaxQueued bytes are, until ctx ends, and then nothing of the message is
// sent. In version 2 it also waits while the hub has that much that it has not yet taken,
// because receivers are slow; what is in line stays there over a lost connection.
// to and body may be changed as soon as it has returned. The errors are a
// *TooManyReceiversError, a *BodyTooLargeError, that of ctx, or why the
// client has ended.
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

// SendOptions change how one message is sent. The zero value of each field means
// its default.
type SendOptions struct {
	// Level is how far the message must have come for each receiver before it is
	// reported. Default: wire.LevelReceived.
	Level wire.Level

	// TTL is after how long the message is worth nothing, counted from the call on and at most
	// 49 days: a receiver to which it was not written by then does not get it, wherever the message
	// waited, and the report is made. Expired are also messages that wait in the client, without a connection for instance; a
	// fate is uncertain where the message may have arrived before. The hub is told what is left in whole
	// milliseconds, rounded down, when the message is written: with less than one the message is not sent. Time on the network does
	// not count. Default: it is always worth something.
	TTL time.Duration

	// ReportTimeout is how long the hub may wait for the last receiver before it reports what
	// it knows, to 100 ms and at most what the hub allows (by default an hour): more is a
	// *ReportTimeoutTooLongError. The report comes earlier when TTL is over, and a hub that does not know
	// this option reports after a time of its own. Default: as the hub is set, by default a minute.
	ReportTimeout time.Duration

	// Overflow is what happens when a receiver's queue is full.
	// Default: wire.OverflowBlock.
	Overflow wire.Overflow
}

// noReportOptions are the options of Send.
var noReportOptions = SendOptions{Level: wire.LevelNone}

// maxTTL is the longest time to live that a SEND can name.
const maxTTL = (1<<32 - 1) * time.Millisecond

func (o *SendOptions) validate() error {
	switch {
	case o.TTL < 0 || o.TTL > maxTTL:
		return fmt.Errorf("client: TTL is %v, must be from 0 to %v", o.TTL, maxTTL)
	case o.ReportTimeout < 0 || o.ReportTimeout > wire.MaxReportTimeout:
		return fmt.Errorf("client: ReportTimeout is %v, must be from 0 to %v", o.ReportTimeout, wire.MaxReportTimeout)
	case o.Level > wire.LevelProcessed:
		return fmt.Errorf("client: Level is %d, must be at most %d", o.Level, wire.LevelProcessed)
	case o.Overflow > wire.OverflowDropOldest:
		return fmt.Errorf("client: Overload is %d, must be at most %d", o.Overflow, wire.OverflowDropOldest)
	}
	return nil
}

func (o *SendOptions) wireOptions() wire.Options { return wire.MakeOptions(o.Level, o.Overflow) }

// ttlMillis returns the time to live in milliseconds. What is left of it is put in its place when it is written.
func (o *SendOptions) ttlMillis() uint32 { return uint32(o.TTL / time.Millisecond) }

// Report is what became of one message.
type Report struct {
	Seq   uint64      // the number of the message: Message.Seq of those who got it
	Fates []wire.Fate // one for each receiver, in the order of to
}

// Reached returns for how many receivers the message has come as far as level.
func (r *Report) Reached(level wire.Level) (n int) {
	for _, fate := range r.Fates {
		if fate.Reaches(level) {
			n++
		}
	}
	return n
}

// SendReport is Send, and waits for the report: what became of the message for each
// receiver, when it has come as far as options says for each that it can reach. The
// hub reports after a while in any case (SendOptions.ReportTimeout). When ctx ends before,
// the message may have been sent all the same. The report comes behind the messages that the
// hub sent before it: somebody must receive those, and it cannot be the one who waits.
//
// Its errors are those of Send, ErrVersion in version 1, a *ReportTimeoutTooLongError, ErrSessionLost,
// ErrUndeliverable, and a *RefusedError when the hub does not take the message.
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
		return nil, fmt.Errorf("client: sent, and not reported: %w", ctx.Err())
	}
}

// SendFunc is SendReport without the waiting: it returns like Send, and done is
// called once with the report or the error, perhaps before SendFunc has returned, if that
// returns nil. done is called by the goroutine that reads, by the one that closes, or, when the
// message has expired in the client, by one of its own: it must not wait for the hub, nor call Close.
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

// sendV2 sends a message in version 2.
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

// checkLimits reports which limit a message exceeds, if so.
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

// checkOpen reports why nothing is to be sent, if so.
func (c *Client) checkOpen(ctx context.Context) error {
	select {
	case <-c.closing:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// enqueueBatch puts frames in line to be written on a connection.
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
