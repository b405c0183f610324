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
