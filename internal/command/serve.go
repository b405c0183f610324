package command

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// served is a hub at work on a listener.
type served struct {
	hub   *hub.Hub
	ended chan struct{} // closed when it accepts no more
	err   error         // why; to be read once ended is closed
}

// serve lets h accept connections on ln until the hub is closed or ctx ends.
func serve(ctx context.Context, h *hub.Hub, ln net.Listener) *served {
	s := &served{hub: h, ended: make(chan struct{})}
	go func() { // ends with close, which waits for it
		defer close(s.ended)
		s.err = h.Serve(ctx, ln)
	}()
	return s
}

// broken returns why the hub ended although nobody asked it to, and nil while it
// serves.
func (s *served) broken() error {
	select {
	case <-s.ended:
	default:
		return nil
	}
	if errors.Is(s.err, hub.ErrClosed) || errors.Is(s.err, context.Canceled) {
		return nil
	}
	return s.err
}

// close shuts the hub down and waits until nothing of it runs. It returns an
// error when drain, or now, ended before every queue was empty.
func (s *served) close(now context.Context, drain time.Duration) error {
	ctx, cancel := context.WithTimeout(now, drain)
	defer cancel()
	err := s.hub.Shutdown(ctx)
	<-s.ended
	return err
}
