package simulation

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/command/serve"
)

// embeddedHub is a hub inside a program that has another purpose.
type embeddedHub struct {
	*serve.Running
	addr   string
	logger *slog.Logger
}

// startEmbeddedHub starts a hub on a free port of the loopback interface.
func startEmbeddedHub(abortCtx context.Context, logger *slog.Logger) (*embeddedHub, error) {
	h, err := hub.New(hub.Config{Logger: logger})
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = h.Shutdown(abortCtx) // nothing is connected
		return nil, err
	}
	return &embeddedHub{serve.Start(abortCtx, h, ln), ln.Addr().String(), logger}, nil
}

// shutdown closes the hub. All clients of the program must have left before.
func (e *embeddedHub) shutdown(abortCtx context.Context) {
	if err := e.Close(abortCtx, serve.DefaultDrainTimeout); err != nil {
		e.logger.Warn("some queued messages of the embedded hub could not be delivered", "error", err)
	}
}

// printStats prints the statistics of the hub.
func (e *embeddedHub) printStats(w io.Writer) error {
	if _, err := fmt.Fprintln(w, "\nThe hub inside this program:"); err != nil {
		return err
	}
	_, err := e.Hub.Stats().WriteTo(w)
	return err
}
