package command

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/sechlol/go-message-hub/client"
)

// watchCommand is the configuration of hubctl watch.
type watchCommand struct {
	*hubCommand
	maxLines int
}

func newWatchCommand() (*settings, func(Process) int) {
	w := &watchCommand{hubCommand: newHubCommand("watch",
		"hubctl watch prints who is connected, and then who comes and goes, until it is interrupted.\n"+
			"It leaves itself out.")}
	addSetting(w.settings, &w.maxLines, "n", unlimited, count(), "after how many lines to end")
	w.addCommonFlags(connectTimeout, "how long the hub may take for the connection")
	w.settings.notes = `A line is "+" and the id of one who is there, or "-" and that of one who has left. With
-json an object has change, which is joined or left, and id.` + idNotes + `

It comes back by itself when its connection is lost, and then tells what has changed
meanwhile. While it cannot, it says why on standard error: at once, when that
changes, and at growing intervals. It ends with 0 after an interrupt or -n lines, with 1 when something did
not go well, and with 2 when the command line was wrong.`
	return w.settings, func(p Process) int {
		return w.run(p, func(stopCtx context.Context) (int, error) { return w.watch(stopCtx, p) })
	}
}

// watch prints changes until there were enough, or stop ends.
func (w *watchCommand) watch(stopCtx context.Context, p Process) (int, error) {
	events := w.newEventLog(p)
	conn, err := w.dial(stopCtx, w.timeout, client.Options{OnEvent: events.handleEvent, OnMessage: rejectAll})
	if err != nil {
		return ExitFailure, err
	}
	defer conn.Close()
	events.logConnected(conn)
	seen := view{present: make(map[uint64]bool), printed: make(map[uint64]bool)}
	remaining := w.maxLines
	for presence, err := range conn.Watch(stopCtx) {
		switch {
		case stopCtx.Err() != nil:
			return ExitOK, nil
		case err != nil:
			return ExitFailure, w.explainError(stopCtx, err)
		}
		changes := seen.update(presence, conn.ID())
		changes = changes[:min(remaining, len(changes))]
		if err := w.printChanges(p.Stdout, changes); err != nil {
			return ExitFailure, err
		}
		if remaining -= len(changes); remaining == 0 {
			break
		}
	}
	return ExitOK, nil
}

func (w *watchCommand) printChanges(out io.Writer, changes []change) error {
	for _, c := range changes {
		if err := w.printResult(out, c); err != nil {
			return err
		}
	}
	return nil
}

// view is who is connected besides the one who looks. A hub that was started
// anew hands out the same ids again, so that the id of somebody else can become one's own
// and the other way round.
type view struct {
	present map[uint64]bool // by what the hub says
	printed map[uint64]bool // by what was printed
	self    uint64
}

// update takes in what the hub says to the client with the id self, and returns what
// is to be told of it.
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

// change is one who has come or gone.
type change struct {
	Change string `json:"change"`
	ID     uint64 `json:"id,string"`
}

// String returns it as one line.
func (c change) String() string {
	sign := "+"
	if c.Change == "left" {
		sign = "-"
	}
	return fmt.Sprintf("%s %d", sign, c.ID)
}
