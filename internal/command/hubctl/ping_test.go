package hubctl

import (
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

func TestHubctlPing_PrintsRoundTrips(t *testing.T) {
	_, port := startServer(t)
	got := programtest.Run(Run, programtest.HubctlArgs(port, "ping", "-n=3", "-interval=1ms")...)
	if lines := strings.Split(got.Stdout, "\n"); got.Code != command.ExitOK || len(lines) != 5 || !strings.HasPrefix(lines[3], "3 answers: min ") {
		t.Errorf("exit code %d, stdout %q, stderr %q", got.Code, got.Stdout, got.Stderr)
	}
	got = programtest.Run(Run, programtest.HubctlArgs(port, "ping", "-n=3", "-interval=1ms", "-json")...)
	objects := programtest.DecodeLines[map[string]int](t, got.Stdout)
	if got.Code != command.ExitOK || len(objects) != 4 {
		t.Fatalf("exit code %d, printed %v", got.Code, objects)
	}
	for i, o := range objects[:3] {
		if o["ping"] != i+1 || o["round_trip_ns"] <= 0 {
			t.Errorf("got %v", o)
		}
	}
	summary := objects[3]
	if summary["pings"] != 3 || summary["min_ns"] <= 0 || summary["max_ns"] < summary["median_ns"] || summary["median_ns"] == 0 {
		t.Errorf("got %v", summary)
	}
}

func TestHubctlPing_Ends(t *testing.T) {
	hub, port := startServer(t)
	p := programtest.Start(t, Run, programtest.HubctlArgs(port, "ping", "-n=all", "-interval=1h")...)
	q := programtest.Start(t, Run, programtest.HubctlArgs(port, "ping", "-n=all", "-interval=1ms")...)
	p.WaitForLine(&p.Stdout, "1  ")
	q.WaitForLine(&q.Stdout, "2  ")
	if got := p.Interrupt(); got.Code != command.ExitOK || !strings.Contains(got.Stdout, "1 answer: ") {
		t.Errorf("interrupted: exit code %d, stdout %q", got.Code, got.Stdout)
	}
	hub.Interrupt()
	<-q.Done
	if q.Code != command.ExitFailure || !strings.Contains(q.Stdout.String(), " answer") || !strings.Contains(q.Stderr.String(), "hubctl ping: the ") {
		t.Errorf("without a hub: exit code %d, stderr %q", q.Code, &q.Stderr)
	}
}
