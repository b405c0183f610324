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

// spreadMargin is the part of the delay that is left when the last client is told.
const spreadMargin = 10

// delayDrain lets the hub serve on for -drain-delay, while the probe of readiness says that it is about to end. It
// returns before that when now ends, or when the hub accepts no more.
func (c *server) delayDrain(now context.Context, work *served, logger *slog.Logger) {
	if c.drainDelay == 0 || work.broken() != nil {
		return
	}
	logger.Info("serving on before the drain", "drain_delay", formatSpan(c.drainDelay), "drain_goaway", c.goAway)
	delay, cancel := context.WithTimeout(now, c.drainDelay)
	defer cancel()
	switch c.goAway {
	case goAwayStart:
		_ = work.hub.SendGoAway(delay, 0) // those whom it leaves out are told at the end, here and below
	case goAwaySpread:
		_ = work.hub.SendGoAway(delay, c.drainDelay-c.drainDelay/spreadMargin)
	}
	select {
	case <-delay.Done():
	case <-work.ended:
	}
}
