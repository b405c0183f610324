//go:build unix

package command

import (
	"context"
	"log/slog"
	"syscall"
	"testing"
)

// TestMain_Signals sends this process the signals of a terminal and of a service manager.
func TestMain_Signals(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			code := Main(func(p Process) int {
				return p.supervise(slog.New(slog.DiscardHandler), func(stopCtx, _ context.Context) int {
					if err := syscall.Kill(syscall.Getpid(), signal); err != nil {
						t.Error(err)
						return ExitFailure
					}
					<-stopCtx.Done()
					return ExitOK
				})
			})
			if code != ExitOK {
				t.Errorf("exit code %d, want %d", code, ExitOK)
			}
		})
	}
}

// TestServer_ReloadsOnSIGHUP starts the server through Main and sends this process SIGHUP, as
// "systemctl reload" and "kill -HUP" do.
func TestServer_ReloadsOnSIGHUP(t *testing.T) {
	path := writeConfigFile(t, "max-clients 1")
	s := &runningProgram{t: t, done: make(chan struct{})}
	go func() { // ends with the server; the test waits for it
		defer close(s.done)
		s.code = Main(func(p Process) int {
			p.Args = []string{"-addr=127.0.0.1", "-port=0", "-log=json", "-config=" + path}
			p.Stdout, p.Stderr = &s.stdout, &s.stderr
			return Server(p)
		})
	}()
	kill := func(signal syscall.Signal) {
		if err := syscall.Kill(syscall.Getpid(), signal); err != nil {
			t.Error(err)
		}
	}
	s.waitForLine(&s.stderr, `"listening"`)
	replaceFile(t, path, "max-clients 2")
	kill(syscall.SIGHUP)
	s.waitForLine(&s.stderr, reloaded)
	kill(syscall.SIGTERM)
	<-s.done
	if s.code != ExitOK {
		t.Errorf("exit code %d, want %d", s.code, ExitOK)
	}
}
