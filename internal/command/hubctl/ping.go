package hubctl

import (
	"context"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/internal/stats"
)

// pingCommand is the configuration of hubctl ping.
type pingCommand struct {
	*hubCommand
	maxPings int
	interval time.Duration
}

func newPingCommand() (*settings.Settings, func(command.Process) int) {
	c := &pingCommand{hubCommand: newHubCommand("ping",
		"hubctl ping sends PING frames to the hub and prints the time until each answer: the round\n"+
			"trip through the network and the hub.")}
	settings.Add(c.settings, &c.maxPings, "n", 4, settings.Count(), "number of pings")
	settings.Add(c.settings, &c.interval, "interval", time.Second, settings.Duration(time.Millisecond, time.Hour), "interval between pings")
	c.addCommonFlags(connectTimeout, timeoutUsage)
	c.settings.Notes = `Each line is the number of the ping and the time. With -json each object has ping and
round_trip_ns, and the last object pings, min_ns, median_ns and max_ns. Times are in
nanoseconds; the median is exact to 1 %.

The exit code is 0 if the hub has answered, also after an interrupt, 1 if it has not,
and 2 for an invalid command line.`
	return c.settings, func(p command.Process) int {
		return c.run(p, func(stopCtx context.Context) (int, error) { return c.ping(stopCtx, p) })
	}
}

// ping sends maxPings pings, or pings until stopCtx ends, and prints a summary.
func (c *pingCommand) ping(stopCtx context.Context, p command.Process) (int, error) {
	conn, err := c.dial(stopCtx, c.timeout, client.Options{NoReconnect: true, OnMessage: rejectAll})
	if err != nil {
		return command.ExitFailure, err
	}
	defer conn.Close()
	summary := pingSummary{histogram: stats.NewLatency()}
	ticker := time.NewTicker(c.interval)
	defer ticker.Stop()
	for err == nil && summary.Pings < c.maxPings && stopCtx.Err() == nil {
		var rtt time.Duration
		if rtt, err = c.pingOnce(stopCtx, conn); err != nil {
			break
		}
		summary.record(rtt)
		if err := c.printResult(p.Stdout, pingResult{summary.Pings, rtt}); err != nil {
			return command.ExitFailure, err
		}
		if summary.Pings == c.maxPings {
			break
		}
		select {
		case <-ticker.C:
		case <-stopCtx.Done():
		}
	}
	return c.printSummary(stopCtx, p, &summary, err)
}

// pingOnce sends one PING and returns the time until the answer.
func (c *pingCommand) pingOnce(stopCtx context.Context, conn *client.Client) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(stopCtx, c.timeout)
	defer cancel()
	return conn.Ping(ctx)
}

// printSummary prints the summary of all answers, also of those before err, and returns the
// exit code.
func (c *pingCommand) printSummary(stopCtx context.Context, p command.Process, summary *pingSummary, err error) (int, error) {
	if summary.Pings > 0 {
		summary.Median = summary.histogram.Quantile(0.5)
		if err := c.printResult(p.Stdout, summary); err != nil {
			return command.ExitFailure, err
		}
		if stopCtx.Err() != nil {
			return command.ExitOK, nil
		}
	}
	switch {
	case err != nil:
		return command.ExitFailure, c.explainError(stopCtx, err)
	case summary.Pings == 0:
		return command.ExitFailure, errInterrupted
	}
	return command.ExitOK, nil
}

// pingResult is one round trip.
type pingResult struct {
	Ping      int           `json:"ping"`
	RoundTrip time.Duration `json:"round_trip_ns"`
}

// String returns the number and the time as one line.
func (r pingResult) String() string {
	return fmt.Sprintf("%d  %v", r.Ping, roundToMicrosecond(r.RoundTrip))
}

// pingSummary counts the round trips. It does not keep them, because their number is
// unbounded.
type pingSummary struct {
	Pings     int           `json:"pings"`
	Min       time.Duration `json:"min_ns"`
	Median    time.Duration `json:"median_ns"`
	Max       time.Duration `json:"max_ns"`
	histogram *stats.Latency
}

func (s *pingSummary) record(rtt time.Duration) {
	s.histogram.Record(rtt)
	if s.Pings == 0 || rtt < s.Min {
		s.Min = rtt
	}
	s.Max = max(s.Max, rtt)
	s.Pings++
}

// String returns the summary as one line.
func (s *pingSummary) String() string {
	return fmt.Sprintf("%s: min %v, median %v, max %v", pluralize(s.Pings, "answer"),
		roundToMicrosecond(s.Min), roundToMicrosecond(s.Median), roundToMicrosecond(s.Max))
}

// roundToMicrosecond rounds d to the precision that is meaningful on a network.
func roundToMicrosecond(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
