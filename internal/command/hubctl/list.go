package hubctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// listCommand is the configuration of hubctl list.
type listCommand struct{ *hubCommand }

func newListCommand() (*settings.Settings, func(command.Process) int) {
	c := listCommand{newHubCommand("list", "hubctl list prints the ids of all connected clients except its own.")}
	c.addCommonFlags(connectTimeout, timeoutUsage)
	c.settings.Notes = `Each line is an id, in ascending order. If the hub is in a cluster, the number of the
hub that has assigned the id follows, and which of its ids it is, as NODE:COUNTER; or
"-" for an id that the client was granted, which can be at any hub. "hubctl nodes" has
the names of the hubs. With -json each object has id, and in a cluster node and counter
unless it is a granted id.` + idNotes
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
	inCluster := isAssignedByCluster(conn.ID())
	for after, hasMore := uint64(0), true; hasMore; {
		var page client.Page
		page, err = c.listPage(stopCtx, conn, after)
		if err != nil {
			return command.ExitFailure, c.explainError(stopCtx, err)
		}
		inCluster = inCluster || slices.ContainsFunc(page.IDs, isAssignedByCluster)
		for _, id := range page.IDs {
			if id == conn.ID() {
				continue
			}
			if err := c.printResult(w, newConnectedClient(id, inCluster)); err != nil {
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
	ID        uint64 `json:"id,string"`
	Node      uint64 `json:"node,omitempty"`    // that has assigned the id; 0: none, or a lone hub
	Counter   uint64 `json:"counter,omitempty"` // of that hub
	inCluster bool
}

// An id that a hub in a cluster assigns has the uppermost bit, the number of the hub, and a
// counter.
const (
	clusterBit  = 1 << 63
	counterBits = 41
)

func isAssignedByCluster(id uint64) bool { return id&clusterBit != 0 }

func newConnectedClient(id uint64, inCluster bool) connectedClient {
	c := connectedClient{ID: id, inCluster: inCluster}
	if isAssignedByCluster(id) {
		c.Node, c.Counter = id&^clusterBit>>counterBits, id&(1<<counterBits-1)
	}
	return c
}

// String returns the id in decimal, and in a cluster which hub has assigned it.
func (c connectedClient) String() string {
	switch {
	case !c.inCluster:
		return formatID(c.ID)
	case c.Node == 0:
		return fmt.Sprintf("%-20d  -", c.ID)
	}
	return fmt.Sprintf("%-20d  %d:%d", c.ID, c.Node, c.Counter)
}
