//go:build unix

package command

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// childProcess returns a command that runs the test binary as the given program in its own
// process. The cleanup of the test kills the process if it is still running.
func childProcess(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env = append(os.Environ(), childEnv+"="+program)
	return c
}

// TestMain_LogReaderCloses closes the pipes of the log and the statistics of a hub, as the end
// of tee in "start_server 2>&1 | tee" does. The hub must continue to serve, and must send
// GOAWAY at shutdown.
func TestMain_LogReaderCloses(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	c := childProcess(t, "start_server", "-addr=127.0.0.1", "-port=0", "-admin=off", "-log=json")
	c.Stdout, c.Stderr = write, write
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	_, addr := readAddresses(t, read)
	read.Close()
	dialAt := func() *client.Client {
		conn, err := client.Dial(t.Context(), addr, &client.Options{NoReconnect: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	first := dialAt() // both connections are logged
	dialAt()
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	var goAway *client.GoAwayError
	if err := first.Err(); !errors.As(err, &goAway) || goAway.Code != wire.GoAwayShutdown {
		t.Errorf("the connection ended with %v, want a GOAWAY", err)
	}
	// The exit code is ExitFailure because the statistics could not be printed.
	if _ = c.Wait(); c.ProcessState.ExitCode() != ExitFailure {
		t.Errorf("the hub ended with %v, want exit code %d", c.ProcessState, ExitFailure)
	}
}

// TestMain_HubctlOutputCloses reads one message of hubctl listen and closes the pipe, as
// "hubctl listen | head -1" does. hubctl must close its session at the hub, and must print no
// error.
func TestMain_HubctlOutputCloses(t *testing.T) {
	_, port := startServer(t, "-resume-window=1h")
	sender := dial(t, port)
	c := childProcess(t, hubctl, "listen", "-addr=127.0.0.1", "-port="+port)
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr outputBuffer
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	connected := (&runningProgram{t: t, done: make(chan struct{})}).waitForLine(&stderr, "msg=connected")
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
	if _ = c.Wait(); c.ProcessState.ExitCode() != ExitPipe {
		t.Errorf("ended with %v, want exit code %d", c.ProcessState, ExitPipe)
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
