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
	return request(ctx, c, listLine, wire.AppendListRequest)
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
	if !c.newer() {
		return Page{}, ErrVersion
	}
	if limit < 0 || limit > wire.PageMost {
		return Page{}, fmt.Errorf("client: limit is %d, must be from 0 to %d", limit, wire.PageMost)
	}
	return request(ctx, c, pageLine, func(b []byte) []byte {
		return wire.AppendListRange(b, wire.ListRange{After: after, Limit: uint32(limit)})
	})
}

// Ping asks the hub for a sign of life and returns how long it took. It waits as List
// does. In version 1 its error is ErrVersion.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	if !c.newer() {
		return 0, ErrVersion
	}
	begin := time.Now()
	_, err := request(ctx, c, pingLine, func(b []byte) []byte {
		begin = time.Now()
		return wire.AppendPing(b, 0)
	})
	return time.Since(begin), err
}

// request sends one request and waits for its answer. If the connection is lost
// before, it does so again on the next one.
func request[T any](ctx context.Context, c *Client, line func(*pending) *[]chan T, appendRequest func([]byte) []byte) (T, error) {
	for {
		l, err := c.connected(ctx)
		if err == nil {
			var value T
			var answered bool
			if value, answered, err = inquire(ctx, l, line, appendRequest); answered {
				return value, nil
			}
		}
		if err != nil {
			var none T
			return none, err
		}
	}
}

// inquire sends a request on a connection. Without an answer and an error, the client may
// come back.
func inquire[T any](ctx context.Context, l *link, line func(*pending) *[]chan T, appendRequest func([]byte) []byte) (value T, answered bool, err error) {
	c := l.client
	if err := c.open(ctx); err != nil {
		return value, false, err
	}
	waiting, err := ask(ctx, l, line(&l.pending), appendRequest)
	if err != nil && ctx.Err() == nil {
		err = c.lost(l)
	}
	if waiting == nil {
		return value, false, err
	}
	select {
	case value, answered = <-waiting:
		if !answered {
			return value, false, c.lost(l)
		}
		return value, true, nil
	case <-ctx.Done():
		return value, false, ctx.Err()
	}
}

// ask sends a request and returns where its answer will come; nil with an error.
func ask[T any](ctx context.Context, l *link, line *[]chan T, appendRequest func([]byte) []byte) (chan T, error) {
	p := &l.pending
	if err := await(ctx, l.over, p.turn); err != nil {
		return nil, err
	}
	defer func() { <-p.turn }()
	waiting := join(p, line)
	if waiting == nil {
		return nil, ErrLost
	}
	buffer := body.Get(wire.ListRangeLen)
	defer buffer.Release()
	frame := appendRequest(buffer.Bytes()[:0])
	if err := l.client.enqueue(ctx, l, &socket.Piece{Buffer: buffer, To: len(frame), Frames: 1}); err != nil {
		withdraw(p, line, waiting)
		return nil, err
	}
	return waiting, nil
}

// pending are the requests that the hub has yet to answer. It answers in order, so
// the oldest request of a kind gets the first answer of that kind.
type pending struct {
	turn chan struct{} // capacity 1: held by the one who asks, so that the lines have the order of the wire

	mu       sync.Mutex
	identity []chan uint64
	list     []chan []uint64
	page     []chan Page
	ping     []chan struct{}
	err      error
}

func listLine(p *pending) *[]chan []uint64 { return &p.list }
func pageLine(p *pending) *[]chan Page     { return &p.page }
func pingLine(p *pending) *[]chan struct{} { return &p.ping }

// settle hands an answer to the one who waits for it.
func (p *pending) settle(f *socket.Frame, newer bool) error {
	switch f.Type {
	case 0: // the empty frame means nothing
		return nil
	case wire.TypeIdentity:
		id, err := wire.ParseIdentity(f.Payload)
		if err != nil {
			return err
		}
		return answer(p, &p.identity, id)
	case wire.TypeList:
		ids, err := wire.ParseList(f.Payload)
		if err != nil {
			return err
		}
		return answer(p, &p.list, ids.AppendTo(make([]uint64, 0, ids.Len())))
	case wire.TypeListPage:
		page, err := wire.ParseListPage(f.Payload)
		if err != nil {
			return err
		}
		ids := page.IDs.AppendTo(make([]uint64, 0, page.IDs.Len()))
		return answer(p, &p.page, Page{IDs: ids, More: page.More, Total: int(page.Total)})
	default:
		if newer && f.Type > wire.TypeTaken {
			return nil // of a version to come
		}
		return unexpected(f.Type)
	}
}

// answer gives value to the first in line.
func answer[T any](p *pending, line *[]chan T, value T) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil // the one who asked has been told that there will be none
	}
	if len(*line) == 0 {
		return fmt.Errorf("%w: an answer that nobody asked for", ErrProtocol)
	}
	(*line)[0] <- value // capacity 1, and nobody else sends
	*line = (*line)[1:]
	return nil
}

// join puts a request in line. The channel is closed when there will be no answer, and
// nil if that is known.
func join[T any](p *pending, line *[]chan T) chan T {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil
	}
	c := make(chan T, 1)
	*line = append(*line, c)
	return c
}

// withdraw takes a request out of line that was not sent.
func withdraw[T any](p *pending, line *[]chan T, c chan T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(*line) - 1; last >= 0 && (*line)[last] == c { // or all are closed
		*line = (*line)[:last]
	}
}

// close fails all requests.
func (p *pending) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	closeAll(&p.identity)
	closeAll(&p.list)
	closeAll(&p.page)
	closeAll(&p.ping)
}

func closeAll[T any](line *[]chan T) {
	for _, c := range *line {
		close(c)
	}
	*line = nil
}
