// Package command holds what the executables share, besides their settings: standard streams,
// signals, exit codes, the version, and a queue for log lines. Each executable is the function
// Run of a package below this one, server, simulation or hubctl, and its main function only
// passes that function to Main.
//
// Messages do not pass through this package: hub and client handle messages, and
// internal/simulation makes load. The package never exits the process, has no global flags,
// and writes only to the outputs in Process. Tests can therefore run each executable as a
// function call.
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

// ErrOutputClosed reports that the reader of standard output has closed it.
var ErrOutputClosed = errors.New("standard output is closed")

// Process holds the inputs and outputs of a program, apart from its environment variables.
type Process struct {
	Args   []string  // without the program name
	Stdin  io.Reader // the message that hubctl send reads; nil: empty
	Stdout io.Writer // for results
	Stderr io.Writer // for log lines and error messages

	// Terminal says that Stdout is a terminal.
	Terminal bool

	// Signals requests the end of the program: the first signal stops it gracefully, the second
	// aborts it. A nil channel never delivers a signal.
	Signals <-chan os.Signal

	// Reloads returns a channel that requests a reload of the configuration. The channel is valid
	// until done is called. A program that cannot reload must not call Reloads, because SIGHUP
	// must terminate such a program, for example when its terminal closes. Nil means that no
	// reload is ever requested.
	Reloads func() (signals <-chan os.Signal, done func())
}

// Main runs program with the arguments, standard streams and signals of this process and
// returns its exit code. Main ignores SIGPIPE: if the reader of the output or the log closes
// it, the write returns an error, and the program shuts down gracefully or continues.
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

// pipeWriter is a standard output that can be a pipe. It replaces EPIPE by ErrOutputClosed.
type pipeWriter struct{ io.Writer }

// Write implements io.Writer. It returns ErrOutputClosed when the reader has closed the pipe.
func (p pipeWriter) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = ErrOutputClosed
	}
	return n, err
}

// NotifyReloads calls p.Reloads. If that is nil, the returned channel is nil.
func (p Process) NotifyReloads() (signals <-chan os.Signal, done func()) {
	if p.Reloads == nil {
		return nil, func() {}
	}
	return p.Reloads()
}

// Supervise runs work and returns its exit code. The first signal ends stopCtx, after which
// work finishes gracefully. The second signal ends abortCtx, and Supervise returns ExitFailure
// without waiting for work.
func (p Process) Supervise(logger *slog.Logger, work func(stopCtx, abortCtx context.Context) int) int {
	abortCtx, abort := context.WithCancel(context.Background())
	defer abort()
	stopCtx, stop := context.WithCancel(abortCtx)
	defer stop()

	code := make(chan int, 1)
	// The goroutine ends with work. After a second signal Supervise does not wait for the
	// goroutine: the process is about to exit, and the end of abortCtx has cancelled what work
	// waits for.
	go func() { code <- work(stopCtx, abortCtx) }()

	select {
	case c := <-code:
		return c
	case s := <-p.Signals:
		logger.Info("stopping; a second signal aborts", "signal", s.String())
		stop()
	}
	select {
	case c := <-code:
		return c
	case s := <-p.Signals:
		logger.Error("aborted at once", "signal", s.String())
		return ExitFailure
	}
}
