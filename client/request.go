package client

import (
	"context"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// request sends a request and waits for its reply. If the connection is lost before the reply,
// request tries again on the next connection.
func request[T any](ctx context.Context, s *session, waiters func(*pendingRequests) *[]chan T, appendRequest func([]byte) []byte) (T, error) {
	for {
		cn, err := waitConn(ctx, s)
		if err == nil {
			var value T
			var replied bool
			if value, replied, err = tryRequest(ctx, s, cn, waiters, appendRequest); replied {
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
func tryRequest[T any](ctx context.Context, s *session, cn *conn, waiters func(*pendingRequests) *[]chan T, appendRequest func([]byte) []byte) (value T, replied bool, err error) {
	if err := s.life.checkOpen(ctx); err != nil {
		return value, false, err
	}
	reply, err := sendRequest(ctx, &s.life, cn, waiters(&cn.pending), appendRequest)
	if err != nil {
		if ctx.Err() != nil {
			return value, false, ctx.Err()
		}
		return value, false, reconnectErr(s, cn)
	}
	select {
	case value, replied = <-reply:
		if !replied {
			return value, false, reconnectErr(s, cn)
		}
		return value, true, nil
	case <-ctx.Done():
		return value, false, ctx.Err()
	}
}

// sendRequest sends a request and returns the channel for its reply, or nil and an error.
func sendRequest[T any](ctx context.Context, life *lifetime, cn *conn, waiters *[]chan T, appendRequest func([]byte) []byte) (chan T, error) {
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
	err := life.checkOpen(ctx)
	if err == nil {
		err = cn.enqueue(ctx, &outbox.Batch{Buffer: buffer, To: len(frame), Frames: 1})
	}
	if err != nil {
		removeWaiter(p, waiters, reply)
		return nil, err
	}
	return reply, nil
}

// waitConn returns the connection of s. While the client is disconnected, waitConn waits for the
// next one.
func waitConn(ctx context.Context, s *session) (*conn, error) {
	for {
		if err := s.life.checkOpen(ctx); err != nil {
			return nil, err
		}
		cn, changed := s.conns.get()
		if err := s.life.Err(); cn != nil || err != nil {
			return cn, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-s.life.closing:
		case <-s.life.Done():
		}
	}
}

// reconnectErr returns nil if the client reconnects, or has reconnected, after the loss of cn.
// Otherwise it returns why not.
func reconnectErr(s *session, cn *conn) error {
	if s.canReconnect() {
		select {
		case <-cn.done: // waitConn returns the next connection, or why there is none
			return nil
		case <-s.life.Done():
		}
	}
	return s.life.closedErr()
}
