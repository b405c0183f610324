package command

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/sechlol/go-message-hub/hub"
)

// embedded is a hub inside a program whose business is another one.
type embedded struct {
	*served
	addr   string
	logger *slog.Logger
}

// embedHub starts a hub on a free port of the loopback interface.
func embedHub(now context.Context, logger *slog.Logger) (*embedded, error) {
	h, err := hub.New(hub.Config{Logger: logger})
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = h.Shutdown(now) // nothing is connected
		return nil, err
	}
	return &embedded{serve(now, h, ln), ln.Addr().String(), logger}, nil
}

// end closes the hub. By then its clients have left.
func (e *embedded) end(now context.Context) {
	if err := e.close(now, defaultDrain); err != nil {
		e.logger.Warn("some of what was queued in the embedded hub could not be delivered", "error", err)
	}
}

// print prints what the hub has counted.
func (e *embedded) print(w io.Writer) error {
	if _, err := fmt.Fprintln(w, "\nThe hub inside this program:"); err != nil {
		return err
	}
	_, err := e.hub.Stats().WriteTo(w)
	return err
}
