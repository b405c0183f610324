package programtest

import (
	"os"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/command"
)

// Running is a program that is running.
type Running struct {
	t              *testing.T
	Stdout, Stderr Output
	Signals        chan os.Signal
	Reloads        chan os.Signal
	Done           chan struct{} // closed when the program has exited
	Code           int           // valid once Done is closed
}

// Start starts a program. The cleanup of the test interrupts the program if it is still
// running.
func Start(t *testing.T, program func(command.Process) int, args ...string) *Running {
	t.Helper()
	s := NewRunning(t)
	go func() { // ends with the program; the cleanup waits for it
		defer close(s.Done)
		s.Code = program(command.Process{
			Args: args, Stdout: &s.Stdout, Stderr: &s.Stderr, Signals: s.Signals,
			Reloads: func() (<-chan os.Signal, func()) { return s.Reloads, func() {} },
		})
	}()
	t.Cleanup(func() {
		s.Signals <- os.Interrupt
		s.Signals <- os.Interrupt
		<-s.Done
	})
	return s
}

// LineTimeout is how long a test waits for a line of output. It is long, because the line can
// follow a reconnect or an expiry on a busy machine.
const LineTimeout = 2 * time.Minute

// NewRunning returns a program that the caller runs. The caller must set Code and close Done
// when the program has exited.
func NewRunning(t *testing.T) *Running {
	return &Running{t: t, Signals: make(chan os.Signal, 4), Reloads: make(chan os.Signal), Done: make(chan struct{})}
}

// WaitForLine waits until the program has written a line that contains text, and returns the
// line.
func (s *Running) WaitForLine(o *Output, text string) string {
	s.t.Helper()
	timeout := time.After(LineTimeout)
	for {
		line, more := o.findLine(text)
		if line != "" {
			return line
		}
		select {
		case <-more:
		case <-s.Done:
			if line, _ := o.findLine(text); line != "" {
				return line
			}
			s.t.Fatalf("exited with %d before it wrote %q\nstdout: %s\nstderr: %s", s.Code, text, &s.Stdout, &s.Stderr)
		case <-timeout:
			s.t.Fatalf("no line with %q within %v\nstdout: %s\nstderr: %s", text, LineTimeout, &s.Stdout, &s.Stderr)
		}
	}
}

// Reload requests a reload and returns the log lines of the reload. The last of these lines
// contains last.
func (s *Running) Reload(last string) string {
	s.t.Helper()
	before := len(s.Stderr.String())
	s.Reloads <- os.Interrupt // the kind of signal does not matter
	timeout := time.After(LineTimeout)
	for {
		line, more := s.Stderr.findLineAfter(before, last)
		if line != "" {
			return s.Stderr.String()[before:]
		}
		select {
		case <-more:
		case <-s.Done:
			s.t.Fatalf("exited with %d before it wrote %q\nstderr: %s", s.Code, last, &s.Stderr)
		case <-timeout:
			s.t.Fatalf("no line with %q within %v of the reload\nstderr: %s", last, LineTimeout, &s.Stderr)
		}
	}
}

// Interrupt sends a signal, waits for the program to exit, and returns its result.
func (s *Running) Interrupt() Result {
	s.t.Helper()
	s.Signals <- os.Interrupt
	<-s.Done
	return Result{s.Code, s.Stdout.String(), s.Stderr.String()}
}
