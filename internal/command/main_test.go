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

	"go.uber.org/goleak"
)

// childEnv names the program as which the test binary runs, for what only a process of its own shows.
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
			os.Unsetenv(name) // the tests say what is set
		}
	}
	goleak.VerifyTestMain(m)
}

// programResult is what a program left behind.
type programResult struct {
	code           int
	stdout, stderr string
}

// runProgram runs a program that ends by itself.
func runProgram(program func(Process) int, args ...string) programResult {
	var stdout, stderr outputBuffer
	code := program(Process{Args: args, Stdout: &stdout, Stderr: &stderr})
	return programResult{code, stdout.String(), stderr.String()}
}

// firstLine returns what a user reads first.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// runningProgram is a program at work.
type runningProgram struct {
	t              *testing.T
	stdout, stderr outputBuffer
	signals        chan os.Signal
	reloads        chan os.Signal
	done           chan struct{}
	code           int
}

// startProgram starts a program. It is interrupted at the end of the test at the latest.
func startProgram(t *testing.T, program func(Process) int, args ...string) *runningProgram {
	t.Helper()
	s := &runningProgram{t: t, signals: make(chan os.Signal, 4), reloads: make(chan os.Signal), done: make(chan struct{})}
	go func() { // ends with the program, for which the cleanup waits
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

// startServer starts a hub on a free port of the loopback interface and returns
// its port.
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

// readAddresses reads the log of a hub, as JSON, until it has told the admin address and its own.
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
	t.Fatal("the hub has ended before it listened")
	return "", ""
}

// waitForLine waits until the program has written a line that contains text.
func (s *runningProgram) waitForLine(o *outputBuffer, text string) string {
	s.t.Helper()
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
			s.t.Fatalf("ended with %d before it wrote %q\nstdout: %s\nstderr: %s", s.code, text, &s.stdout, &s.stderr)
		}
	}
}

// reload asks the program to read its configuration again, and returns what it
// logs about that, whose last line contains last.
func (s *runningProgram) reload(last string) string {
	s.t.Helper()
	before := len(s.stderr.String())
	s.reloads <- os.Interrupt // any signal will do
	for {
		line, more := s.stderr.findLineAfter(before, last)
		if line != "" {
			return s.stderr.String()[before:]
		}
		select {
		case <-more:
		case <-s.done:
			s.t.Fatalf("ended with %d before it wrote %q\nstderr: %s", s.code, last, &s.stderr)
		}
	}
}

// interrupt sends a signal and returns what becomes of the program.
func (s *runningProgram) interrupt() programResult {
	s.t.Helper()
	s.signals <- os.Interrupt
	<-s.done
	return programResult{s.code, s.stdout.String(), s.stderr.String()}
}

// outputBuffer collects what a program writes.
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

// String returns everything written so far.
func (o *outputBuffer) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// findLine returns the first line that contains text, or else a channel that is
// closed when there is more to look at.
func (o *outputBuffer) findLine(text string) (line string, more <-chan struct{}) {
	return o.findLineAfter(0, text)
}

// findLineAfter leaves out the first bytes.
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
