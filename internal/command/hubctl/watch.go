package hubctl

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// watchCommand is the configuration of hubctl watch.
type watchCommand struct {
	*hubCommand
	maxLines int
}

func newWatchCommand() (*settings.Settings, func(command.Process) int) {
	w := &watchCommand{hubCommand: newHubCommand("watch",
		"hubctl watch prints the connected clients, then joins and leaves, until it is interrupted.\n"+
			"It does not print its own id.")}
	settings.Add(w.settings, &w.maxLines, "n", settings.Unlimited, settings.Count(), "exit after this many lines")
	w.addCommonFlags(connectTimeout, "time limit for the connection")
	w.settings.Notes = `Each line is "+" and the id of a connected client, or "-" and the id of a client that
has left. With -json each object has change, which is joined or left, and id.` + idNotes + `

It reconnects by itself when the connection is lost, and then prints the changes since
then. Errors of reconnecting are logged on standard error: at once, when the error
changes, and at growing intervals. The exit code is 0 after an interrupt or -n lines,
1 on failure, and 2 for an invalid command line.`
	return w.settings, func(p command.Process) int {
		return w.run(p, func(stopCtx context.Context) (int, error) { return w.watch(stopCtx, p) })
	}
}

// watch prints changes until it has printed maxLines lines, or until stopCtx ends.
func (w *watchCommand) watch(stopCtx context.Context, p command.Process) (int, error) {
	events := newEventLog(w.hubCommand, p)
	conn, err := w.dial(stopCtx, w.timeout, client.Options{OnEvent: events.handleEvent, OnMessage: rejectAll})
	if err != nil {
		return command.ExitFailure, err
	}
	defer conn.Close()
	events.logConnected(conn)
	seen := view{present: make(map[uint64]bool), printed: make(map[uint64]bool)}
	remaining := w.maxLines
	for presence, err := range conn.Watch(stopCtx) {
		switch {
		case stopCtx.Err() != nil:
			return command.ExitOK, nil
		case err != nil:
			return command.ExitFailure, w.explainError(stopCtx, err)
		}
		changes := seen.update(presence, conn.ID())
		changes = changes[:min(remaining, len(changes))]
		if err := w.printChanges(p.Stdout, changes); err != nil {
			return command.ExitFailure, err
		}
		if remaining -= len(changes); remaining == 0 {
			break
		}
	}
	return command.ExitOK, nil
}

func (w *watchCommand) printChanges(out io.Writer, changes []change) error {
	for _, c := range changes {
		if err := w.printResult(out, c); err != nil {
			return err
		}
	}
	return nil
}

// view is the set of connected clients without the watcher itself. The id of the watcher can
// change after a reconnect. Because a restarted hub assigns the same ids again, the new id of
// the watcher can be the old id of another client, and vice versa.
type view struct {
	present map[uint64]bool // clients that the hub reports as connected
	printed map[uint64]bool // clients that were printed as joined
	self    uint64          // id of the watcher
}

// update applies p, which the hub has sent to the watcher with the id self, and returns the
// changes to print.
func (v *view) update(p client.Presence, self uint64) (changes []change) {
	for _, id := range p.Joined {
		v.present[id] = true
	}
	for _, id := range p.Left {
		delete(v.present, id)
	}
	affected := slices.Concat(p.Left, p.Joined)
	if self != v.self {
		affected = append(affected, v.self, self)
		v.self = self
	}
	for _, id := range affected {
		isPresent := v.present[id] && id != self
		if isPresent == v.printed[id] {
			continue
		}
		if isPresent {
			v.printed[id] = true
			changes = append(changes, change{"joined", id})
		} else {
			delete(v.printed, id)
			changes = append(changes, change{"left", id})
		}
	}
	return changes
}

// change is one line of hubctl watch: a client has joined or left.
type change struct {
	Change string `json:"change"`
	ID     uint64 `json:"id,string"`
}

// String returns the change as one line.
func (c change) String() string {
	sign := "+"
	if c.Change == "left" {
		sign = "-"
	}
	return fmt.Sprintf("%s %d", sign, c.ID)
}
