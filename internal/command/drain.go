package command

import (
	"context"
	"log/slog"
)

// The times at which clients of version 2 are told that the hub ends.
const (
	goAwayStart  = "start"  // of the delay: all at once
	goAwaySpread = "spread" // over the delay, one after another
	goAwayEnd    = "end"    // of the delay: all at once, as the port is closed
)

// spreadMarginFraction is the part of the delay that is left when the last client is told.
const spreadMarginFraction = 10

// delayDrain lets the hub serve on for -drain-delay, while the probe of readiness says that it is about to end. It
// returns before that when now ends, or when the hub accepts no more.
func (c *server) delayDrain(abortCtx context.Context, running *runningHub, logger *slog.Logger) {
	if c.drainDelay == 0 || running.unexpectedErr() != nil {
		return
	}
	logger.Info("serving on before the drain", "drain_delay", formatDuration(c.drainDelay), "drain_goaway", c.drainGoAway)
	delayCtx, cancel := context.WithTimeout(abortCtx, c.drainDelay)
	defer cancel()
	switch c.drainGoAway {
	case goAwayStart:
		_ = running.hub.SendGoAway(delayCtx, 0) // those whom it leaves out are told at the end, here and below
	case goAwaySpread:
		_ = running.hub.SendGoAway(delayCtx, c.drainDelay-c.drainDelay/spreadMarginFraction)
	}
	select {
	case <-delayCtx.Done():
	case <-running.done:
	}
}
