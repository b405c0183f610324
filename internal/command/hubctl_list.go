package command

import (
	"context"
	"errors"
	"io"

	"github.com/sechlol/go-message-hub/client"
)

func newListCommand() (*settings, func(Process) int) {
	c := newHubCommand("list", "hubctl list prints the ids of all clients that are connected, without its own.")
	c.addCommonFlags(connectTimeout, timeoutUsage)
	c.settings.notes = `A line is an id, in ascending order. With -json an object has id.` + idNotes
	return c.settings, func(p Process) int {
		return c.run(p, func(stopCtx context.Context) (int, error) { return c.list(stopCtx, p.Stdout) })
	}
}

// list prints who is connected.
func (c *hubCommand) list(stopCtx context.Context, w io.Writer) (int, error) {
	conn, err := c.dial(stopCtx, c.timeout, client.Options{NoReconnect: true, OnMessage: rejectAll})
	if err != nil {
		return ExitFailure, err
	}
	defer conn.Close()
	for after, hasMore := uint64(0), true; hasMore; {
		var page client.Page
		page, err = c.listPage(stopCtx, conn, after)
		if err != nil {
			return ExitFailure, c.explainError(stopCtx, err)
		}
		for _, id := range page.IDs {
			if id == conn.ID() {
				continue
			}
			if err := c.printResult(w, connectedClient{id}); err != nil {
				return ExitFailure, err
			}
		}
		hasMore = page.More && len(page.IDs) > 0
		if hasMore {
			after = page.IDs[len(page.IDs)-1]
		}
	}
	return ExitOK, nil
}

// listPage asks for the ids above after, all of them where the hub knows no pages.
func (c *hubCommand) listPage(stopCtx context.Context, conn *client.Client, after uint64) (client.Page, error) {
	ctx, cancel := context.WithTimeout(stopCtx, c.timeout)
	defer cancel()
	page, err := conn.ListPage(ctx, after, 0)
	if errors.Is(err, client.ErrVersion) {
		page.IDs, err = conn.List(ctx)
	}
	return page, err
}

// connectedClient is a client that is connected.
type connectedClient struct {
	ID uint64 `json:"id,string"`
}

// String returns it as one line.
func (c connectedClient) String() string { return formatID(c.ID) }
