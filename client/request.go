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

// List returns the ids of all other clients that are connected, in ascending
// order. It waits for the hub's answer until ctx ends, and asks again when the
// client has lost its connection and come back. The answer comes behind the messages that
// the hub sent before it: if nobody receives those, it cannot be read. Nor can it be while
// OnMessage or OnEvent runs.
func (c *Client) List(ctx context.Context) ([]uint64, error) {
	return request(ctx, c, listWaiters, wire.AppendListRequest)
}

// Page is a part of the list of clients.
type Page struct {
	IDs   []uint64 // ascending, that of the one who asked included
	More  bool     // there are larger ones
	Total int      // how many clients there are in all
}

// ListPage returns the ids above after, in ascending order: at most limit of them, and
// never more than 8,192; 0 asks for so many. With the last id as the next after, it
// pages through any number of clients. It waits as List does. In version 1 its error is
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

// Ping asks the hub for a sign of life and returns how long it took. It waits as List
// does. In version 1 its error is ErrVersion.
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

// request sends one request and waits for its answer. If the connection is lost
// before, it does so again on the next one.
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

// tryRequest sends a request on a connection. Without an answer and an error, the client may
// come back.
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

// sendRequest sends a request and returns where its answer will come; nil with an error.
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

// pendingRequests are the requests that the hub has yet to answer. It answers in order, so
// the oldest request of a kind gets the first answer of that kind.
type pendingRequests struct {
	sendMu chan struct{} // capacity 1: held by the one who asks, so that the lines have the order of the wire

	mu       sync.Mutex
	identity []chan uint64
	list     []chan []uint64
	page     []chan Page
	ping     []chan struct{}
	err      error
}

func listWaiters(p *pendingRequests) *[]chan []uint64 { return &p.list }
func pageWaiters(p *pendingRequests) *[]chan Page     { return &p.page }
func pingWaiters(p *pendingRequests) *[]chan struct{} { return &p.ping }

// handleReply hands an answer to the one who waits for it.
func (p *pendingRequests) handleReply(f *socket.Frame, isV2 bool) error {
	switch f.Type {
	case 0: // the empty frame means nothing
		return nil
	case wire.TypeIdentity:
		id, err := wire.ParseIdentity(f.Payload)
		if err != nil {
			return err
		}
		return deliverReply(p, &p.identity, id)
	case wire.TypeList:
		ids, err := wire.ParseList(f.Payload)
		if err != nil {
			return err
		}
		return deliverReply(p, &p.list, ids.AppendTo(make([]uint64, 0, ids.Len())))
	case wire.TypeListPage:
		page, err := wire.ParseListPage(f.Payload)
		if err != nil {
			return err
		}
		ids := page.IDs.AppendTo(make([]uint64, 0, page.IDs.Len()))
		return deliverReply(p, &p.page, Page{IDs: ids, More: page.More, Total: int(page.Total)})
	default:
		if isV2 && f.Type > wire.TypeAck {
			return nil // of a version to come
		}
		return unexpectedFrameError(f.Type)
	}
}

// deliverReply gives value to the first in line.
func deliverReply[T any](p *pendingRequests, waiters *[]chan T, value T) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil // the one who asked has been told that there will be none
	}
	if len(*waiters) == 0 {
		return fmt.Errorf("%w: an answer that nobody asked for", ErrProtocol)
	}
	(*waiters)[0] <- value // capacity 1, and nobody else sends
	*waiters = (*waiters)[1:]
	return nil
}

// addWaiter puts a request in line. The channel is closed when there will be no answer, and
// nil if that is known.
func addWaiter[T any](p *pendingRequests, waiters *[]chan T) chan T {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil
	}
	c := make(chan T, 1)
	*waiters = append(*waiters, c)
	return c
}

// removeWaiter takes a request out of line that was not sent.
func removeWaiter[T any](p *pendingRequests, waiters *[]chan T, c chan T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(*waiters) - 1; last >= 0 && (*waiters)[last] == c { // or all are closed
		*waiters = (*waiters)[:last]
	}
}

// close fails all requests.
func (p *pendingRequests) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	closeWaiters(&p.identity)
	closeWaiters(&p.list)
	closeWaiters(&p.page)
	closeWaiters(&p.ping)
}

func closeWaiters[T any](waiters *[]chan T) {
	for _, c := range *waiters {
		close(c)
	}
	*waiters = nil
}
