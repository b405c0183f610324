package hubctl

import (
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

func TestHubctlWatch_PrintsChanges(t *testing.T) {
	_, port := startServer(t)
	present := programtest.DialVersion(t, port, 2)
	w := programtest.Start(t, Run, programtest.HubctlArgs(port, "watch")...)
	w.WaitForLine(&w.Stdout, "+ "+formatID(present.ID())+"\n")
	joined := programtest.DialVersion(t, port, 1)
	w.WaitForLine(&w.Stdout, "+ "+formatID(joined.ID())+"\n")
	present.Close()
	w.WaitForLine(&w.Stdout, "- "+formatID(present.ID())+"\n")
	got := w.Interrupt()
	if got.Code != command.ExitOK || strings.Count(got.Stdout, "\n") != 3 {
		t.Errorf("exit code %d, stdout %q", got.Code, got.Stdout)
	}
	got = programtest.Run(Run, programtest.HubctlArgs(port, "watch", "-n=1", "-json")...)
	objects := programtest.DecodeLines[map[string]string](t, got.Stdout)
	if got.Code != command.ExitOK || len(objects) != 1 || objects[0]["change"] != "joined" || objects[0]["id"] != formatID(joined.ID()) {
		t.Errorf("exit code %d, printed %v", got.Code, objects)
	}
}

// TestHubctlWatch_TooManyWatchers checks the error message of a watcher above -max-watchers.
func TestHubctlWatch_TooManyWatchers(t *testing.T) {
	_, port := startServer(t, "-max-watchers=1")
	w := programtest.Start(t, Run, programtest.HubctlArgs(port, "watch")...)
	other := programtest.DialVersion(t, port, 1)
	w.WaitForLine(&w.Stdout, "+ "+formatID(other.ID())+"\n")
	got := programtest.Run(Run, programtest.HubctlArgs(port, "watch")...)
	if got.Code != command.ExitFailure || !strings.Contains(got.Stderr, "has reached its maximum number of watchers") {
		t.Errorf("exit code %d, stderr %q", got.Code, got.Stderr)
	}
	w.Interrupt()
}

// TestHubctlWatch_RejectsMessages sends a message to hubctl watch, which does not receive
// messages.
func TestHubctlWatch_RejectsMessages(t *testing.T) {
	_, port := startServer(t)
	w := programtest.Start(t, Run, programtest.HubctlArgs(port, "watch")...)
	_, id, _ := strings.Cut(w.WaitForLine(&w.Stderr, "connected"), " id=")
	id, _, _ = strings.Cut(id, " ")
	got := programtest.Run(Run, programtest.HubctlArgs(port, "send", "-to="+id, "-level=processed", "hi")...)
	programtest.CheckResult(t, got, ExitUndelivered, id+"  rejected\n", "0 of 1 receiver")
}

// TestView_Update moves a watcher to a hub that assigns the same ids to other clients.
func TestView_Update(t *testing.T) {
	v := view{present: make(map[uint64]bool), printed: make(map[uint64]bool)}
	steps := []struct {
		self         uint64
		joined, left []uint64
		want         string
	}{
		{self: 3, joined: []uint64{1, 2, 3}, want: "+ 1,+ 2"},
		{self: 3, joined: []uint64{2, 4}, left: []uint64{1}, want: "- 1,+ 4"},
		// Id 3 now belongs to another client.
		{self: 2, joined: []uint64{1}, left: []uint64{4}, want: "- 4,+ 1,+ 3,- 2"},
		{self: 2, left: []uint64{3}, want: "- 3"},
	}
	for _, step := range steps {
		var got []string
		for _, c := range v.update(client.Presence{Joined: step.joined, Left: step.left}, step.self) {
			got = append(got, c.String())
		}
		if text := strings.Join(got, ","); text != step.want {
			t.Errorf("printed %s, want %s", text, step.want)
		}
	}
}
