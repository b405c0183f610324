package command

import (
	"context"
	"errors"
	"io"

	"github.com/sechlol/go-message-hub/client"
)

func newList() (*settings, func(Process) int) {
	c := newControl("list", "hubctl list prints the ids of all clients that are connected, without its own.")
	c.addCommon(connectTimeout, timeoutUsage)
	c.settings.notes = `A line is an id, in ascending order. With -json an object has id.` + idNotes
	return c.settings, func(p Process) int {
		return c.run(p, func(stop context.Context) (int, error) { return c.list(stop, p.Stdout) })
	}
}

// list prints who is connected.
func (c *control) list(stop context.Context, w io.Writer) (int, error) {
	conn, err := c.dial(stop, c.timeout, client.Options{NoReconnect: true, OnMessage: turnDown})
	if err != nil {
		return ExitFailure, err
	}
	defer conn.Close()
	for after, more := uint64(0), true; more; {
		var page client.Page
		page, err = c.page(stop, conn, after)
		if err != nil {
			return ExitFailure, c.problem(stop, err)
		}
		for _, id := range page.IDs {
			if id == conn.ID() {
				continue
			}
			if err := c.print(w, connected{id}); err != nil {
				return ExitFailure, err
			}
		}
		more = page.More && len(page.IDs) > 0
		if more {
			after = page.IDs[len(page.IDs)-1]
		}
	}
	return ExitOK, nil
}

// page asks for the ids above after, all of them where the hub knows no pages.
func (c *control) page(stop context.Context, conn *client.Client, after uint64) (client.Page, error) {
	ctx, cancel := context.WithTimeout(stop, c.timeout)
	defer cancel()
	page, err := conn.ListPage(ctx, after, 0)
	if errors.Is(err, client.ErrVersion) {
		page.IDs, err = conn.List(ctx)
	}
	return page, err
}

// connected is a client that is connected.
type connected struct {
	ID uint64 `json:"id,string"`
}

// String returns it as one line.
func (c connected) String() string { return decimal(c.ID) }
