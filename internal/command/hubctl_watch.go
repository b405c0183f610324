package command

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/sechlol/go-message-hub/client"
)

// watch is the configuration of hubctl watch.
type watch struct {
	*control
	lines int
}

func newWatch() (*settings, func(Process) int) {
	w := &watch{control: newControl("watch",
		"hubctl watch prints who is connected, and then who comes and goes, until it is interrupted.\n"+
			"It leaves itself out.")}
	add(w.settings, &w.lines, "n", endless, count(), "after how many lines to end")
	w.addCommon(connectTimeout, "how long the hub may take for the connection")
	w.settings.notes = `A line is "+" and the id of one who is there, or "-" and that of one who has left. With
-json an object has change, which is joined or left, and id.` + idNotes + `

It comes back by itself when its connection is lost, and then tells what has changed
meanwhile. While it cannot, it says why on standard error: at once, when that
changes, and at growing intervals. It ends with 0 after an interrupt or -n lines, with 1 when something did
not go well, and with 2 when the command line was wrong.`
	return w.settings, func(p Process) int {
		return w.run(p, func(stop context.Context) (int, error) { return w.watch(stop, p) })
	}
}

// watch prints changes until there were enough, or stop ends.
func (w *watch) watch(stop context.Context, p Process) (int, error) {
	events := w.newEventLog(p)
	conn, err := w.dial(stop, w.timeout, client.Options{OnEvent: events.event, OnMessage: turnDown})
	if err != nil {
		return ExitFailure, err
	}
	defer conn.Close()
	events.connected(conn)
	seen := sight{present: make(map[uint64]bool), told: make(map[uint64]bool)}
	left := w.lines
	for presence, err := range conn.Watch(stop) {
		switch {
		case stop.Err() != nil:
			return ExitOK, nil
		case err != nil:
			return ExitFailure, w.problem(stop, err)
		}
		changes := seen.take(presence, conn.ID())
		changes = changes[:min(left, len(changes))]
		if err := w.tell(p.Stdout, changes); err != nil {
			return ExitFailure, err
		}
		if left -= len(changes); left == 0 {
			break
		}
	}
	return ExitOK, nil
}

func (w *watch) tell(out io.Writer, changes []change) error {
	for _, c := range changes {
		if err := w.print(out, c); err != nil {
			return err
		}
	}
	return nil
}

// sight is who is connected besides the one who looks. A hub that was started
// anew hands out the same ids again, so that the id of somebody else can become one's own
// and the other way round.
type sight struct {
	present map[uint64]bool // by what the hub says
	told    map[uint64]bool // by what was printed
	self    uint64
}

// take takes in what the hub says to the client with the id self, and returns what
// is to be told of it.
func (s *sight) take(p client.Presence, self uint64) (changes []change) {
	for _, id := range p.Joined {
		s.present[id] = true
	}
	for _, id := range p.Left {
		delete(s.present, id)
	}
	concerned := slices.Concat(p.Left, p.Joined)
	if self != s.self {
		concerned = append(concerned, s.self, self)
		s.self = self
	}
	for _, id := range concerned {
		here := s.present[id] && id != self
		if here == s.told[id] {
			continue
		}
		if here {
			s.told[id] = true
			changes = append(changes, change{"joined", id})
		} else {
			delete(s.told, id)
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
