package hubctl

import (
	"context"
	"errors"
	"io"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// listCommand is the configuration of hubctl list.
type listCommand struct{ *hubCommand }

func newListCommand() (*settings.Settings, func(command.Process) int) {
	c := listCommand{newHubCommand("list", "hubctl list prints the ids of all connected clients except its own.")}
	c.addCommonFlags(connectTimeout, timeoutUsage)
	c.settings.Notes = `Each line is an id, in ascending order. With -json each object has id.` + idNotes
	return c.settings, func(p command.Process) int {
		return c.run(p, func(stopCtx context.Context) (int, error) { return c.list(stopCtx, p.Stdout) })
	}
}

// list prints the ids of the connected clients, except its own.
func (c listCommand) list(stopCtx context.Context, w io.Writer) (int, error) {
	conn, err := c.dial(stopCtx, c.timeout, client.Options{NoReconnect: true, OnMessage: rejectAll})
	if err != nil {
		return command.ExitFailure, err
	}
	defer conn.Close()
	for after, hasMore := uint64(0), true; hasMore; {
		var page client.Page
		page, err = c.listPage(stopCtx, conn, after)
		if err != nil {
			return command.ExitFailure, c.explainError(stopCtx, err)
		}
		for _, id := range page.IDs {
			if id == conn.ID() {
				continue
			}
			if err := c.printResult(w, connectedClient{id}); err != nil {
				return command.ExitFailure, err
			}
		}
		hasMore = page.More && len(page.IDs) > 0
		if hasMore {
			after = page.IDs[len(page.IDs)-1]
		}
	}
	return command.ExitOK, nil
}

// listPage returns the next page of ids above after. A hub of protocol version 1 has no pages
// and returns all ids.
func (c listCommand) listPage(stopCtx context.Context, conn *client.Client, after uint64) (client.Page, error) {
	ctx, cancel := context.WithTimeout(stopCtx, c.timeout)
	defer cancel()
	page, err := conn.ListPage(ctx, after, 0)
	if errors.Is(err, client.ErrVersion) {
		page.IDs, err = conn.List(ctx)
	}
	return page, err
}

// connectedClient is one line of hubctl list.
type connectedClient struct {
	ID uint64 `json:"id,string"`
}

// String returns the id in decimal.
func (c connectedClient) String() string { return formatID(c.ID) }
