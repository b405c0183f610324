package command

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/settings"
)

func TestSupervise_ReturnsExitCode(t *testing.T) {
	p := Process{Signals: make(chan os.Signal)}
	for _, want := range []int{ExitOK, ExitFailure} {
		got := p.Supervise(slog.New(slog.DiscardHandler), func(stopCtx, abortCtx context.Context) int {
			if stopCtx.Err() != nil || abortCtx.Err() != nil {
				t.Error("a context ended without a signal")
			}
			return want
		})
		if got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
}

func TestSupervise_FirstSignalStopsGracefully(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	code := Process{Signals: signals}.Supervise(slog.New(slog.DiscardHandler), func(stopCtx, abortCtx context.Context) int {
		<-stopCtx.Done()
		if abortCtx.Err() != nil {
			t.Error("the first signal aborted")
		}
		return ExitOK
	})
	if code != ExitOK {
		t.Errorf("exit code %d, want %d", code, ExitOK)
	}
}

func TestSupervise_SecondSignalAborts(t *testing.T) {
	signals := make(chan os.Signal, 2)
	signals <- os.Interrupt
	signals <- os.Interrupt
	var stderr strings.Builder
	release := make(chan struct{})
	defer close(release)
	code := Process{Signals: signals}.Supervise(settings.NewLogger(&stderr, settings.LogText, slog.LevelInfo),
		func(stopCtx, abortCtx context.Context) int {
			<-release // ignores both contexts
			return ExitOK
		})
	if code != ExitFailure {
		t.Errorf("exit code %d, want %d", code, ExitFailure)
	}
	if !strings.Contains(stderr.String(), "aborted at once") {
		t.Errorf("log does not say so: %s", &stderr)
	}
}
