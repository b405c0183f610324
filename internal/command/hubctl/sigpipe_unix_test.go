//go:build unix

package hubctl

import (
	"bufio"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/wire"
)

// TestMain_HubctlOutputCloses reads one message of hubctl listen and closes the pipe, as
// "hubctl listen | head -1" does. hubctl must close its session at the hub, and must print no
// error.
func TestMain_HubctlOutputCloses(t *testing.T) {
	_, port := startServer(t, "-resume-window=1h")
	sender := programtest.Dial(t, port)
	c := programtest.Child(t, "listen", "-addr=127.0.0.1", "-port="+port)
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr programtest.Output
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	connected := (programtest.NewRunning(t)).WaitForLine(&stderr, "msg=connected")
	listener, err := strconv.ParseUint(regexp.MustCompile(`id=(\d+)`).FindStringSubmatch(connected)[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	send := func() *client.Report {
		report, err := sender.SendReport(t.Context(), []uint64{listener}, []byte("hello"), &client.SendOptions{Level: wire.LevelProcessed})
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if got := send().Fates[0]; got != wire.FateProcessed {
		t.Errorf("the first message is %v", got)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.HasSuffix(line, "hello\n") {
		t.Errorf("printed %q, %v", line, err)
	}
	stdout.Close()
	if got := send().Fates[0]; got == wire.FateProcessed {
		t.Error("a message that could not be printed is reported as processed")
	}
	if _ = c.Wait(); c.ProcessState.ExitCode() != command.ExitPipe {
		t.Errorf("ended with %v, want exit code %d", c.ProcessState, command.ExitPipe)
	}
	for line := range strings.Lines(stderr.String()) {
		if !strings.Contains(line, "msg=connected") {
			t.Errorf("logged %q", line)
		}
	}
	if ids, err := sender.List(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("listed %v, %v, want no other client", ids, err)
	}
}
