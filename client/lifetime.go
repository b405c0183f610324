package client

import (
	"context"
	"sync"
	"sync/atomic"
)

// lifetime says how far a client has come, and why it has ended.
//
//	open ──Close──► closing ──┐
//	  │                       ├─end─► ended, with an error
//	  └───────────────────────┘
type lifetime struct {
	// Static after init.
	ctx     context.Context    // ends last: when nothing can be sent any more
	cancel  context.CancelFunc // of ctx
	closing chan struct{}      // closed when Close is called

	// callbacksDisabled is set when Close stops waiting for a running callback. OnMessage and
	// OnEvent are not called any more.
	callbacksDisabled atomic.Bool

	mu  sync.Mutex
	err error // guarded by mu; set before ctx ends
}

func (l *lifetime) init() {
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.closing = make(chan struct{})
}

// Done returns a channel that is closed when the client has ended.
func (l *lifetime) Done() <-chan struct{} { return l.ctx.Done() }

// Err returns why the client has ended, and nil before.
func (l *lifetime) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// end sets why the client has ended. It reports whether this is the first call; the caller must
// end the parts of the client then, and cancel ctx last.
func (l *lifetime) end(err error) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return false
	}
	l.err = err
	return true
}

// isClosing reports whether Close was called.
func (l *lifetime) isClosing() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// checkOpen returns an error if ctx has ended or Close was called.
func (l *lifetime) checkOpen(ctx context.Context) error {
	if l.isClosing() {
		return ErrClosed
	}
	return ctx.Err()
}

// closedErr returns the error for calls on a client that cannot send any more.
func (l *lifetime) closedErr() error {
	if err := l.Err(); err != nil {
		return err
	}
	if l.isClosing() { // Close was called and is not done
		return ErrClosed
	}
	return ErrConnectionLost
}
