package client

import (
	"context"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// List returns the ids of all other connected clients in ascending order. It waits for the
// reply of the hub until ctx ends, and sends the request again after a reconnect.
//
// The reply comes behind messages that the hub sent before. The client reads it only if the
// application receives those messages, and cannot read it while OnMessage or OnEvent runs.
//
// The errors are the error of ctx, and the reason why the client has ended: see Err.
func (c *Client) List(ctx context.Context) ([]uint64, error) {
	return request(ctx, c, listWaiters, wire.AppendListRequest)
}

// ListPage returns the ids above after in ascending order: at most limit ids, and never more
// than 8,192. limit 0 means 8,192. To list any number of clients, pass the last id of a page as
// after of the next call. ListPage waits and fails like List. In version 1 its error is
// ErrVersion.
func (c *Client) ListPage(ctx context.Context, after uint64, limit int) (Page, error) {
	if !c.isV2() {
		return Page{}, ErrVersion
	}
	if limit < 0 || limit > wire.MaxPageIDs {
		return Page{}, fmt.Errorf("client: limit is %d, must be from 0 to %d", limit, wire.MaxPageIDs)
	}
	return request(ctx, c, pageWaiters, func(b []byte) []byte {
		return wire.AppendListRange(b, wire.ListRange{After: after, Limit: uint32(limit)})
	})
}

// Ping sends a PING to the hub and returns the time until the PONG, counted from the last
// attempt to send it. Ping waits and fails like List. In version 1 its error is ErrVersion.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	if !c.isV2() {
		return 0, ErrVersion
	}
	begin := time.Now()
	_, err := request(ctx, c, pingWaiters, func(b []byte) []byte {
		begin = time.Now()
		return wire.AppendPing(b, 0)
	})
	return time.Since(begin), err
}

// request sends a request and waits for its reply. If the connection is lost before the reply,
// request tries again on the next connection.
func request[T any](ctx context.Context, c *Client, waiters func(*pendingRequests) *[]chan T, appendRequest func([]byte) []byte) (T, error) {
	for {
		cn, err := c.waitConn(ctx)
		if err == nil {
			var value T
			var replied bool
			if value, replied, err = tryRequest(ctx, cn, waiters, appendRequest); replied {
				return value, nil
			}
		}
		if err != nil {
			var zero T
			return zero, err
		}
	}
}

// tryRequest sends a request on cn and waits for its reply. replied is false and err is nil if
// cn was lost and the client reconnects.
func tryRequest[T any](ctx context.Context, cn *conn, waiters func(*pendingRequests) *[]chan T, appendRequest func([]byte) []byte) (value T, replied bool, err error) {
	c := cn.client
	if err := c.checkOpen(ctx); err != nil {
		return value, false, err
	}
	reply, err := sendRequest(ctx, cn, waiters(&cn.pending), appendRequest)
	if err != nil && ctx.Err() == nil {
		err = c.reconnectErr(cn)
	}
	if reply == nil {
		return value, false, err
	}
	select {
	case value, replied = <-reply:
		if !replied {
			return value, false, c.reconnectErr(cn)
		}
		return value, true, nil
	case <-ctx.Done():
		return value, false, ctx.Err()
	}
}

// sendRequest sends a request and returns the channel for its reply, or nil and an error.
func sendRequest[T any](ctx context.Context, cn *conn, waiters *[]chan T, appendRequest func([]byte) []byte) (chan T, error) {
	p := &cn.pending
	if err := acquire(ctx, cn.done, p.sendMu); err != nil {
		return nil, err
	}
	defer func() { <-p.sendMu }()
	reply := addWaiter(p, waiters)
	if reply == nil {
		return nil, ErrConnectionLost
	}
	buffer := body.Get(wire.ListRangeLen)
	defer buffer.Release()
	frame := appendRequest(buffer.Bytes()[:0])
	if err := cn.client.enqueueBatch(ctx, cn, &socket.Batch{Buffer: buffer, To: len(frame), Frames: 1}); err != nil {
		removeWaiter(p, waiters, reply)
		return nil, err
	}
	return reply, nil
}
