package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childEnv is the environment variable that makes the test binary run as one of the programs,
// for tests that need a separate process.
const childEnv = "COMMAND_TEST_PROGRAM"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "start_server":
		os.Exit(Main(Server))
	case hubctl:
		os.Exit(Main(Hubctl))
	}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "HUB_") || strings.HasPrefix(name, "SIMULATION_") || strings.HasPrefix(name, "OTEL_") {
			os.Unsetenv(name) // the tests set what they need
		}
	}
	goleak.VerifyTestMain(m)
}

// programResult is the exit code and the output of a program.
type programResult struct {
	code           int
	stdout, stderr string
}

// runProgram runs a program until it exits by itself.
func runProgram(program func(Process) int, args ...string) programResult {
	var stdout, stderr outputBuffer
	code := program(Process{Args: args, Stdout: &stdout, Stderr: &stderr})
	return programResult{code, stdout.String(), stderr.String()}
}

// firstLine returns the first line of text.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// runningProgram is a program that is running.
type runningProgram struct {
	t              *testing.T
	stdout, stderr outputBuffer
	signals        chan os.Signal
	reloads        chan os.Signal
	done           chan struct{}
	code           int
}

// startProgram starts a program. The cleanup of the test interrupts the program if it is still
// running.
func startProgram(t *testing.T, program func(Process) int, args ...string) *runningProgram {
	t.Helper()
	s := &runningProgram{t: t, signals: make(chan os.Signal, 4), reloads: make(chan os.Signal), done: make(chan struct{})}
	go func() { // ends with the program; the cleanup waits for it
		defer close(s.done)
		s.code = program(Process{
			Args: args, Stdout: &s.stdout, Stderr: &s.stderr, Signals: s.signals,
			Reloads: func() (<-chan os.Signal, func()) { return s.reloads, func() {} },
		})
	}()
	t.Cleanup(func() {
		s.signals <- os.Interrupt
		s.signals <- os.Interrupt
		<-s.done
	})
	return s
}

// startServer starts a hub on a free port of the loopback interface and returns the port.
func startServer(t *testing.T, args ...string) (s *runningProgram, port string) {
	t.Helper()
	s = startProgram(t, Server, append([]string{"-addr=127.0.0.1", "-port=0", "-log=json", "-admin=off"}, args...)...)
	line := s.waitForLine(&s.stderr, `"listening"`)
	var event struct{ Addr string }
	if err := json.Unmarshal([]byte(line), &event); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	_, port, err := net.SplitHostPort(event.Addr)
	if err != nil {
		t.Fatal(err)
	}
	return s, port
}

// readAddresses reads the JSON log of a hub until the log contains the admin address and the
// address of the hub.
func readAddresses(t *testing.T, log io.Reader) (admin, hub string) {
	t.Helper()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var event struct{ Msg, Addr string }
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		switch event.Msg {
		case "admin address open":
			admin = event.Addr
		case "listening":
			return admin, event.Addr
		}
	}
	t.Fatal("the hub stopped before it listened")
	return "", ""
}

// lineTimeout is how long a test waits for a line of output. It is long, because the line can
// follow a reconnect or an expiry on a busy machine.
const lineTimeout = 2 * time.Minute

// waitForLine waits until the program has written a line that contains text, and returns the
// line.
func (s *runningProgram) waitForLine(o *outputBuffer, text string) string {
	s.t.Helper()
	timeout := time.After(lineTimeout)
	for {
		line, more := o.findLine(text)
		if line != "" {
			return line
		}
		select {
		case <-more:
		case <-s.done:
			if line, _ := o.findLine(text); line != "" {
				return line
			}
			s.t.Fatalf("exited with %d before it wrote %q\nstdout: %s\nstderr: %s", s.code, text, &s.stdout, &s.stderr)
		case <-timeout:
			s.t.Fatalf("no line with %q within %v\nstdout: %s\nstderr: %s", text, lineTimeout, &s.stdout, &s.stderr)
		}
	}
}

// reload requests a reload and returns the log lines of the reload. The last of these lines
// contains last.
func (s *runningProgram) reload(last string) string {
	s.t.Helper()
	before := len(s.stderr.String())
	s.reloads <- os.Interrupt // the kind of signal does not matter
	timeout := time.After(lineTimeout)
	for {
		line, more := s.stderr.findLineAfter(before, last)
		if line != "" {
			return s.stderr.String()[before:]
		}
		select {
		case <-more:
		case <-s.done:
			s.t.Fatalf("exited with %d before it wrote %q\nstderr: %s", s.code, last, &s.stderr)
		case <-timeout:
			s.t.Fatalf("no line with %q within %v of the reload\nstderr: %s", last, lineTimeout, &s.stderr)
		}
	}
}

// interrupt sends a signal, waits for the program to exit, and returns its result.
func (s *runningProgram) interrupt() programResult {
	s.t.Helper()
	s.signals <- os.Interrupt
	<-s.done
	return programResult{s.code, s.stdout.String(), s.stderr.String()}
}

// outputBuffer collects the output of a program.
type outputBuffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	waiters []chan struct{}
}

// Write implements io.Writer.
func (o *outputBuffer) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, w := range o.waiters {
		close(w)
	}
	o.waiters = nil
	return o.text.Write(p)
}

// String returns the output so far.
func (o *outputBuffer) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// findLine returns the first line that contains text. If there is none, it returns a channel
// that is closed by the next write.
func (o *outputBuffer) findLine(text string) (line string, more <-chan struct{}) {
	return o.findLineAfter(0, text)
}

// findLineAfter is findLine for the output after the first bytes.
func (o *outputBuffer) findLineAfter(first int, text string) (line string, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for line := range strings.Lines(o.text.String()[first:]) {
		if strings.Contains(line, text) {
			return line, nil
		}
	}
	w := make(chan struct{})
	o.waiters = append(o.waiters, w)
	return "", w
}
