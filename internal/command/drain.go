package command

import (
	"context"
	"log/slog"
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

// delayDrain keeps the hub serving for -drain-delay while the readiness probe reports the
// shutdown. It returns early when abortCtx ends or when the hub stops accepting.
func (c *server) delayDrain(abortCtx context.Context, running *runningHub, logger *slog.Logger) {
	if c.drainDelay == 0 || running.unexpectedErr() != nil {
		return
	}
	logger.Info("serving on before the drain", "drain_delay", formatDuration(c.drainDelay), "drain_goaway", c.drainGoAway)
	delayCtx, cancel := context.WithTimeout(abortCtx, c.drainDelay)
	defer cancel()
	switch c.drainGoAway {
	case goAwayStart:
		// On an error here and below, Shutdown sends GOAWAY to the remaining clients.
		_ = running.hub.SendGoAway(delayCtx, 0)
	case goAwaySpread:
		_ = running.hub.SendGoAway(delayCtx, c.drainDelay-c.drainDelay/spreadMarginFraction)
	}
	select {
	case <-delayCtx.Done():
	case <-running.done:
	}
}
