package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// Send hands body to every client in to. An id that is not connected is skipped
// by the hub, one that stands there twice gets the body twice, and the client
// may name itself.
//
// Send returns when the message is written, or in line to be: it waits while
// Options.MaxQueued bytes are in line, until ctx ends, and then nothing of the message is
// sent. to and body may be changed as soon as it has returned. The errors are a
// *TooManyReceiversError, a *BodyTooLargeError, that of ctx, or why the
// connection is over.
func (c *Client) Send(ctx context.Context, to []uint64, message []byte) error {
	if len(to) > wire.MaxReceivers {
		return &TooManyReceiversError{Receivers: len(to)}
	}
	if len(message) > c.options.MaxBody {
		return &BodyTooLargeError{Size: len(message), Limit: c.options.MaxBody}
	}
	buffer := body.Get(wire.RelayLen(len(to), len(message)))
	defer buffer.Release()
	frame := wire.AppendRelay(buffer.Bytes()[:0], to, message)
	return c.enqueue(ctx, &socket.Piece{Buffer: buffer, To: len(frame), Frames: 1, Deliveries: 1})
}

// List returns the ids of all other clients that are connected, in ascending
// order. It waits for the hub's answer until ctx ends. The answer comes behind
// the messages that the hub sent before it: if nobody receives those, it cannot
// be read.
func (c *Client) List(ctx context.Context) ([]uint64, error) {
	return request(ctx, c, &c.pending.list, wire.AppendListRequest)
}

// askIdentity asks the hub for the client's id.
func (c *Client) askIdentity(ctx context.Context) (uint64, error) {
	return request(ctx, c, &c.pending.identity, wire.AppendIdentityRequest)
}

// request sends one request and waits for its answer.
func request[T any](ctx context.Context, c *Client, line *[]chan T, appendRequest func([]byte) []byte) (T, error) {
	var none T
	if err := c.open(ctx); err != nil {
		return none, err
	}
	waiting, err := ask(&c.pending, line)
	if err != nil {
		return none, err
	}
	buffer := body.Get(wire.HeaderSize)
	defer buffer.Release()
	frame := appendRequest(buffer.Bytes()[:0])
	if err := c.enqueue(ctx, &socket.Piece{Buffer: buffer, To: len(frame), Frames: 1}); err != nil {
		withdraw(&c.pending, line, waiting)
		return none, err
	}
	select {
	case value, ok := <-waiting:
		if !ok {
			return none, c.gone()
		}
		return value, nil
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

var dispatches = sync.Pool{New: func() any { return new(socket.Dispatch) }}

// open reports why nothing is to be sent, if so.
func (c *Client) open(ctx context.Context) error {
	select {
	case <-c.closing:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// enqueue puts frames in line to be written.
func (c *Client) enqueue(ctx context.Context, p *socket.Piece) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	d := dispatches.Get().(*socket.Dispatch)
	outcome := d.Enqueue(&c.conn.Outbox, p, ctx.Done())
	dispatches.Put(d)
	switch outcome {
	case socket.Queued:
		return nil
	case socket.Parked:
		return ctx.Err()
	default:
		return c.gone()
	}
}

// Stats is what a client has moved. Messages are frames of any kind: messages,
// requests and answers. Bytes are those on the wire.
type Stats struct {
	MessagesIn, MessagesOut uint64
	BytesIn, BytesOut       uint64
}

// Stats returns the numbers of this moment. They remain after the end.
func (c *Client) Stats() Stats {
	return Stats{
		MessagesIn:  c.counts.messagesIn.Load(),
		MessagesOut: c.counts.messagesOut.Load(),
		BytesIn:     c.counts.bytesIn.Load(),
		BytesOut:    c.counts.bytesOut.Load(),
	}
}

type counts struct {
	messagesIn, messagesOut, bytesIn, bytesOut atomic.Uint64

	lost atomic.Uint64 // messages that Send took and that did not leave
}

// read notes a turn: so many more frames, and how many bytes came in all.
func (c *counts) read(frames, bytes uint64) {
	c.messagesIn.Add(frames)
	c.bytesIn.Store(bytes)
}

func (c *counts) wrote(t socket.Tally) {
	c.messagesOut.Add(uint64(t.Frames))
	c.bytesOut.Add(uint64(t.Bytes))
}

func (c *counts) lose(t socket.Tally) { c.lost.Add(uint64(t.Deliveries)) }

// unsent returns an error if something that Send took did not leave.
func (c *Client) unsent() error {
	if n := c.counts.lost.Load(); n > 0 {
		return fmt.Errorf("client: %d messages were not sent: %w", n, c.Err())
	}
	return nil
}
