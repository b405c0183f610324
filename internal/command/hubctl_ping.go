package command

import (
	"context"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/stats"
)

// ping is the configuration of hubctl ping.
type ping struct {
	*control
	pings    int
	interval time.Duration
}

func newPing() (*settings, func(Process) int) {
	c := &ping{control: newControl("ping",
		"hubctl ping asks the hub for signs of life, and prints how long it took to answer: the round\n"+
			"trip through the network and the hub.")}
	add(c.settings, &c.pings, "n", 4, count(), "how often to ask")
	add(c.settings, &c.interval, "interval", time.Second, span(time.Millisecond, time.Hour), "time between two questions")
	c.addCommon(connectTimeout, timeoutUsage)
	c.settings.notes = `A line is the number of the question and the time. With -json an object has ping and
round_trip_ns, and the last one pings, min_ns, median_ns and max_ns: times are in
nanoseconds, the median is exact to 1 %.

It ends with 0 when the hub has answered, also after an interrupt, with 1 when it did
not, and with 2 when the command line was wrong.`
	return c.settings, func(p Process) int {
		return c.run(p, func(stop context.Context) (int, error) { return c.ping(stop, p) })
	}
}

// ping asks until it was often enough, or stop ends, and sums up.
func (c *ping) ping(stop context.Context, p Process) (int, error) {
	conn, err := c.dial(stop, c.timeout, client.Options{NoReconnect: true, OnMessage: turnDown})
	if err != nil {
		return ExitFailure, err
	}
	defer conn.Close()
	sum := trips{median: stats.NewLatency()}
	next := time.NewTicker(c.interval)
	defer next.Stop()
	for err == nil && sum.Pings < c.pings && stop.Err() == nil {
		var took time.Duration
		if took, err = c.once(stop, conn); err != nil {
			break
		}
		sum.add(took)
		if err := c.print(p.Stdout, trip{sum.Pings, took}); err != nil {
			return ExitFailure, err
		}
		if sum.Pings == c.pings {
			break
		}
		select {
		case <-next.C:
		case <-stop.Done():
		}
	}
	return c.sumUp(stop, p, &sum, err)
}

// once asks once.
func (c *ping) once(stop context.Context, conn *client.Client) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(stop, c.timeout)
	defer cancel()
	return conn.Ping(ctx)
}

// sumUp prints what there was, up to an error too.
func (c *ping) sumUp(stop context.Context, p Process, sum *trips, err error) (int, error) {
	if sum.Pings > 0 {
		sum.Median = sum.median.Quantile(0.5)
		if err := c.print(p.Stdout, sum); err != nil {
			return ExitFailure, err
		}
		if stop.Err() != nil {
			return ExitOK, nil
		}
	}
	switch {
	case err != nil:
		return ExitFailure, c.problem(stop, err)
	case sum.Pings == 0:
		return ExitFailure, errInterrupted
	}
	return ExitOK, nil
}

// trip is one round trip.
type trip struct {
	Ping int           `json:"ping"`
	Took time.Duration `json:"round_trip_ns"`
}

// String returns it as one line.
func (t trip) String() string { return fmt.Sprintf("%d  %v", t.Ping, readable(t.Took)) }

// trips are all of them. Their number has no bound, so that they are counted and not kept.
type trips struct {
	Pings  int           `json:"pings"`
	Min    time.Duration `json:"min_ns"`
	Median time.Duration `json:"median_ns"`
	Max    time.Duration `json:"max_ns"`
	median *stats.Latency
}

func (t *trips) add(took time.Duration) {
	t.median.Record(took)
	if t.Pings == 0 || took < t.Min {
		t.Min = took
	}
	t.Max = max(t.Max, took)
	t.Pings++
}

// String returns it as one line.
func (t *trips) String() string {
	return fmt.Sprintf("%s: min %v, median %v, max %v", counted(t.Pings, "answer"), readable(t.Min), readable(t.Median), readable(t.Max))
}

// readable leaves out what no clock can tell on a network.
func readable(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
