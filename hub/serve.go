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

// The delay after a failed accept doubles from minAcceptDelay to maxAcceptDelay, as in
// net/http.
const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

// NewTLSListener returns a TLS listener for Serve, as [tls.NewListener] does. An idle
// connection of it takes 5 KiB less memory than one of tls.NewListener, and messages arrive
// faster (docs/decisions/0010). NewTLSListener panics if ln or config is nil.
func NewTLSListener(ln net.Listener, config *tls.Config) net.Listener {
	if ln == nil || config == nil {
		panic("hub: NewTLSListener with a nil listener or configuration")
	}
	config = config.Clone()
	config.DynamicRecordSizingDisabled = true // the receiver cannot use a part of a message
	return tls.NewListener(nonblockListener{ln}, config)
}

// nonblockListener is a listener whose connections the hub can poll for data beneath TLS.
type nonblockListener struct{ net.Listener }

// Accept implements net.Listener.
func (l nonblockListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return socket.WrapForTLS(nc), nil
}

// isTemporary reports whether accept can succeed later: after too many open files, for
// example, or after a client has closed its connection before it was accepted.
func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// acceptLoop admits connections until ctx ends or ln fails permanently.
func (a *admitter) acceptLoop(ctx context.Context, ln net.Listener) error {
	for {
		nc, err := a.acceptNext(ctx, ln)
		if err != nil {
			return err
		}
		a.admit(nc)
	}
}

// acceptNext accepts one connection. It tries again after a temporary error, and returns an error
// when ctx has ended or ln has failed permanently.
func (a *admitter) acceptNext(ctx context.Context, ln net.Listener) (net.Conn, error) {
	delay := time.Duration(0)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil && nc == nil:
			return nil, fmt.Errorf("hub: accept: %T returned neither a connection nor an error", ln)
		case err == nil:
			return nc, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !isTemporary(err):
			return nil, fmt.Errorf("hub: accept: %w", err)
		default:
			delay = min(max(2*delay, minAcceptDelay), maxAcceptDelay)
			a.hub.counters.acceptErrors.Add(1)
			a.hub.config.Logger.Warn("accept failed", "error", err, "retry_in", delay)
			select {
			case <-time.After(delay):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
}
