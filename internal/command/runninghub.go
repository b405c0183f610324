package command

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// runningHub is a hub at work on a listener.
type runningHub struct {
	hub  *hub.Hub
	done chan struct{} // closed when it accepts no more
	err  error         // why; to be read once ended is closed
}

// serve lets h accept connections on ln until the hub is closed or ctx ends.
func serve(ctx context.Context, h *hub.Hub, ln net.Listener) *runningHub {
	r := &runningHub{hub: h, done: make(chan struct{})}
	go func() { // ends with close, which waits for it
		defer close(r.done)
		r.err = h.Serve(ctx, ln)
	}()
	return r
}

// unexpectedErr returns why the hub ended although nobody asked it to, and nil while it
// serves.
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

// close shuts the hub down and waits until nothing of it runs. It returns an
// error when drain, or now, ended before every queue was empty.
func (r *runningHub) close(abortCtx context.Context, drainTimeout time.Duration) error {
	ctx, cancel := context.WithTimeout(abortCtx, drainTimeout)
	defer cancel()
	err := r.hub.Shutdown(ctx)
	<-r.done
	return err
}
