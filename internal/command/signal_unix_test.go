//go:build unix

package command

import (
	"context"
	"log/slog"
	"syscall"
	"testing"
)

// TestMainHearsTheSignals sends this process what a terminal and a service
// manager send.
func TestMainHearsTheSignals(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			code := Main(func(p Process) int {
				return p.supervise(slog.New(slog.DiscardHandler), func(stop, _ context.Context) int {
					if err := syscall.Kill(syscall.Getpid(), signal); err != nil {
						t.Error(err)
						return ExitFailure
					}
					<-stop.Done()
					return ExitOK
				})
			})
			if code != ExitOK {
				t.Errorf("exit code %d, want %d", code, ExitOK)
			}
		})
	}
}

// TestServerReloadsOnHangup starts the server as the operating system does, and
// sends this process what "systemctl reload" and "kill -HUP" send.
func TestServerReloadsOnHangup(t *testing.T) {
	path := configFile(t, "max-clients 1")
	s := &started{t: t, ended: make(chan struct{})}
	go func() { // ends with the server, for which the test waits
		defer close(s.ended)
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
	s.awaitLine(&s.stderr, `"listening"`)
	rewrite(t, path, "max-clients 2")
	kill(syscall.SIGHUP)
	s.awaitLine(&s.stderr, reloaded)
	kill(syscall.SIGTERM)
	<-s.ended
	if s.code != ExitOK {
		t.Errorf("exit code %d, want %d", s.code, ExitOK)
	}
}
