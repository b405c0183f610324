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
				return p.Supervise(slog.New(slog.DiscardHandler), func(stopCtx, _ context.Context) int {
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
