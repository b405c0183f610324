// Package serve runs a hub in a goroutine of a program, and ends both. start_server and
// start_simulation -embed share it.
package serve

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// DefaultDrainTimeout is the default time limit for draining queues at shutdown. A client that
// reads empties its queue much faster.
const DefaultDrainTimeout = 5 * time.Second

// Running is a hub that serves a listener.
type Running struct {
	Hub  *hub.Hub
	done chan struct{} // closed when Serve has returned
	err  error         // of Serve; valid once done is closed
}

// Start starts a goroutine in which h accepts connections on ln until the hub is closed or ctx
// ends. The caller must call Close.
func Start(ctx context.Context, h *hub.Hub, ln net.Listener) *Running {
	r := &Running{Hub: h, done: make(chan struct{})}
	go func() { // ends with Close, which waits for it
		defer close(r.done)
		r.err = h.Serve(ctx, ln)
	}()
	return r
}

// Done returns a channel that is closed when the hub has stopped serving.
func (r *Running) Done() <-chan struct{} { return r.done }

// UnexpectedErr returns the error of Serve if the hub stopped without being asked to, and nil
// otherwise.
func (r *Running) UnexpectedErr() error {
	select {
	case <-r.done:
	default:
		return nil
	}
	if errors.Is(r.err, hub.ErrClosed) || errors.Is(r.err, context.Canceled) {
		return nil
	}
	return r.err
}

// Close shuts the hub down and waits until all of its goroutines have ended. It returns an
// error if drainTimeout or abortCtx ended before all queues were empty.
func (r *Running) Close(abortCtx context.Context, drainTimeout time.Duration) error {
	ctx, cancel := context.WithTimeout(abortCtx, drainTimeout)
	defer cancel()
	err := r.Hub.Shutdown(ctx)
	<-r.done
	return err
}
