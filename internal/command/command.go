// Package command is what the executables share: flags, environment, config
// file, logging, signals and exit codes. Each executable is one function here,
// Server, Simulation or Hubctl, and its main is a call of Main with it.
//
// It stands at the edge and does no work of its own: messages are the business
// of hub and client, load is that of internal/simulation. It never ends the
// process, has no global flags, and writes only where its Process says, so that
// everything an executable does can be tested without starting one.
package command

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// The exit codes of all executables.
const (
	ExitOK      = 0
	ExitFailure = 1 // it was understood but did not go well
	ExitUsage   = 2 // a flag, a variable or a line of the config file was wrong

	// ExitPipe says that the reader of standard output has closed it. A shell shows the same
	// of a program that is killed by SIGPIPE.
	ExitPipe = 128 + 13
)

// errOutputClosed says that nobody reads standard output any more.
var errOutputClosed = errors.New("standard output is closed")

// Process is what a program is given by whoever starts it, besides its
// environment.
type Process struct {
	Args   []string  // without the name of the program
	Stdin  io.Reader // for what is to be sent; nil is empty
	Stdout io.Writer // for results
	Stderr io.Writer // for log lines and complaints

	// Terminal says that Stdout is one.
	Terminal bool

	// Signals asks to end: the first orderly, the second at once. Nil never asks.
	Signals <-chan os.Signal

	// Reloads returns a channel that asks to read the configuration again, until done is
	// called. Only a program that can do so may call it: SIGHUP ends all others, as when
	// their terminal goes away. Nil never asks.
	Reloads func() (signals <-chan os.Signal, done func())
}

// Main runs program as the operating system started this process and returns its
// exit code. SIGPIPE is ignored: a program whose output or log nobody reads any more learns that
// from the error of a write, and ends in good order or goes on.
func Main(program func(Process) int) int {
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	terminal := term.IsTerminal(int(os.Stdout.Fd()))
	var stdout io.Writer = os.Stdout
	if !terminal {
		stdout = pipeWriter{os.Stdout}
	}
	return program(Process{
		Args:     os.Args[1:],
		Stdin:    os.Stdin,
		Stdout:   stdout,
		Stderr:   os.Stderr,
		Terminal: terminal,
		Signals:  signals,
		Reloads:  notifyHangup,
	})
}

// pipeWriter is a standard output that may be a pipe, and names the error of one that is closed.
type pipeWriter struct{ io.Writer }

// Write implements io.Writer. Its error is errOutputClosed when nobody reads any more.
func (p pipeWriter) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = errOutputClosed
	}
	return n, err
}

// reloads returns the channel that asks to read the configuration again.
func (p Process) reloads() (signals <-chan os.Signal, done func()) {
	if p.Reloads == nil {
		return nil, func() {}
	}
	return p.Reloads()
}

// supervise runs work and returns its exit code. The first signal ends stop, on
// which work winds up what it does. The second ends now and returns at once,
// whatever work is waiting for.
func (p Process) supervise(logger *slog.Logger, work func(stopCtx, abortCtx context.Context) int) int {
	abortCtx, abort := context.WithCancel(context.Background())
	defer abort()
	stopCtx, stop := context.WithCancel(abortCtx)
	defer stop()

	code := make(chan int, 1)
	// Ends with work. After a second signal nobody waits for that: the process is
	// about to end, and now has ended everything that could keep work.
	go func() { code <- work(stopCtx, abortCtx) }()

	select {
	case c := <-code:
		return c
	case s := <-p.Signals:
		logger.Info("stopping; a second signal ends at once", "signal", s.String())
		stop()
	}
	select {
	case c := <-code:
		return c
	case s := <-p.Signals:
		logger.Error("ended at once", "signal", s.String())
		return ExitFailure
	}
}
