package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/sechlol/go-message-hub/internal/command/serve"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// The times at which version 2 clients get GOAWAY at shutdown.
const (
	goAwayStart  = "start"  // all at the start of the delay
	goAwaySpread = "spread" // one after another over the delay
	goAwayEnd    = "end"    // all at the end of the delay, when the port is closed
)

// spreadMarginFraction is the divisor of the delay that gives the margin after the last
// GOAWAY: one tenth of the delay.
const spreadMarginFraction = 10

// drainFlags are the settings of the end of a hub.
type drainFlags struct {
	timeout time.Duration // for draining queues
	delay   time.Duration // before the drain
	goAway  string        // goAwayStart, goAwaySpread or goAwayEnd
}

func (f *drainFlags) addFlags(s *settings.Settings) {
	settings.Add(s, &f.timeout, "drain", serve.DefaultDrainTimeout, settings.Duration(0, 24*time.Hour),
		"time limit for draining queues at shutdown", settings.Reloadable)
	settings.Add(s, &f.delay, "drain-delay", 0, settings.Duration(0, 24*time.Hour),
		"delay before the drain: the port stays open and /readyz\nreturns 503, to let load balancers choose another hub", settings.Reloadable)
	settings.Add(s, &f.goAway, "drain-goaway", goAwayEnd, settings.OneOf(goAwayStart, goAwaySpread, goAwayEnd),
		"when GOAWAY is sent to version 2 clients: at the start of\n-drain-delay, spread over the delay, or at its end", settings.Reloadable)
}

// wait keeps the hub serving for -drain-delay while the readiness probe reports the
// shutdown. It returns early when abortCtx ends or when the hub stops accepting.
func (f *drainFlags) wait(abortCtx context.Context, running *serve.Running, logger *slog.Logger) {
	if f.delay == 0 || running.UnexpectedErr() != nil {
		return
	}
	logger.Info("serving on before the drain", "drain_delay", settings.FormatDuration(f.delay), "drain_goaway", f.goAway)
	delayCtx, cancel := context.WithTimeout(abortCtx, f.delay)
	defer cancel()
	switch f.goAway {
	case goAwayStart:
		// On an error here and below, Shutdown sends GOAWAY to the remaining clients.
		_ = running.Hub.SendGoAway(delayCtx, 0)
	case goAwaySpread:
		_ = running.Hub.SendGoAway(delayCtx, f.delay-f.delay/spreadMarginFraction)
	}
	select {
	case <-delayCtx.Done():
	case <-running.Done():
	}
}
