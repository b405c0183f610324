package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
)

// The pause after a failed accept grows from the first to the second, as in
// net/http.
const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

// Serve accepts connections on ln until Shutdown is called, and then returns
// ErrClosed; or until ctx ends, and then returns its error: the clients stay
// connected until Shutdown. It closes ln in any case. A failure to accept that
// may pass, such as too many open files, is logged and survived. Several
// listeners may be served at once. Those of crypto/tls are known, and NewTLSListener makes better ones: a connection has
// Config.HandshakeTimeout for its handshake, and is not listed before.
func (h *Hub) Serve(ctx context.Context, ln net.Listener) error {
	if ln == nil {
		return errors.New("hub: Serve has no listener: ln is nil")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	go func() { // ends with Serve, which waits for it
		defer close(done)
		select {
		case <-h.closing:
			cancel(ErrClosed)
		case <-ctx.Done():
		}
		ln.Close()
	}()
	err := h.acceptLoop(ctx, ln)
	cancel(err)
	<-done
	if cause := context.Cause(ctx); errors.Is(cause, ErrClosed) {
		return ErrClosed
	}
	return err
}

// NewTLSListener returns a listener of crypto/tls, as [tls.NewListener] does, for Serve. Over it a connection that
// waits takes 5 KiB less, and messages come faster (docs/decisions/0010). It panics if one of them is nil.
func NewTLSListener(ln net.Listener, config *tls.Config) net.Listener {
	if ln == nil || config == nil {
		panic("hub: NewTLSListener with a nil listener or configuration")
	}
	config = config.Clone()
	config.DynamicRecordSizingDisabled = true // a part of a message is of no use
	return tls.NewListener(nonblockListener{ln}, config)
}

// nonblockListener is a listener of connections that the hub can wait at, beneath TLS.
type nonblockListener struct{ net.Listener }

// Accept implements net.Listener.
func (l nonblockListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return socket.WrapForTLS(nc), nil
}

// isTemporary reports whether a failure to accept may pass: too many open files, or a
// client that went away before it was accepted.
func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// acceptLoop admits connections until ctx ends or ln is broken for good.
func (h *Hub) acceptLoop(ctx context.Context, ln net.Listener) error {
	delay := time.Duration(0)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil && nc == nil:
			return fmt.Errorf("hub: accept: %T returned neither a connection nor an error", ln)
		case err == nil:
			delay = 0
			h.startConn(nc)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !isTemporary(err):
			return fmt.Errorf("hub: accept: %w", err)
		default:
			delay = min(max(2*delay, minAcceptDelay), maxAcceptDelay)
			h.counters.acceptErrors.Add(1)
			h.config.Logger.Warn("accept failed", "error", err, "retry_in", delay)
			select {
			case <-time.After(delay):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}
