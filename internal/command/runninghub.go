package command

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// runningHub is a hub that serves a listener.
type runningHub struct {
	hub  *hub.Hub
	done chan struct{} // closed when Serve has returned
	err  error         // of Serve; valid once done is closed
}

// serve starts a goroutine in which h accepts connections on ln until the hub is closed or ctx
// ends. The caller must call close.
func serve(ctx context.Context, h *hub.Hub, ln net.Listener) *runningHub {
	r := &runningHub{hub: h, done: make(chan struct{})}
	go func() { // ends with close, which waits for it
		defer close(r.done)
		r.err = h.Serve(ctx, ln)
	}()
	return r
}

// unexpectedErr returns the error of Serve if the hub stopped without being asked to, and nil
// otherwise.
func (r *runningHub) unexpectedErr() error {
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

// close shuts the hub down and waits until all of its goroutines have ended. It returns an
// error if drainTimeout or abortCtx ended before all queues were empty.
func (r *runningHub) close(abortCtx context.Context, drainTimeout time.Duration) error {
	ctx, cancel := context.WithTimeout(abortCtx, drainTimeout)
	defer cancel()
	err := r.hub.Shutdown(ctx)
	<-r.done
	return err
}
