package main

import (
	"context"
	"fmt"
	"strconv"
)

// latencyRounds is the number of round trips, which take about two seconds. 200 of them lie
// above the 99th percentile.
const latencyRounds = 20_000

// latencyColumns are the columns of a latency.
var latencyColumns = []column{
	{heading: "p50 µs", value: func(m *measurement) float64 { return m.P50 * 1e6 }},
	{heading: "p90 µs", value: func(m *measurement) float64 { return m.P90 * 1e6 }},
	{heading: "p99 µs", value: func(m *measurement) float64 { return m.P99 * 1e6 }},
	{heading: "max µs", value: func(m *measurement) float64 { return m.Max * 1e6 }},
}

// latencySeries are the bars of latency charts.
var latencySeries = []series{
	{name: "p50", value: latencyColumns[0].value},
	{name: "p99", value: latencyColumns[2].value},
}

// rawHeading is the heading of the ratio that smokeLatency checks.
const rawHeading = "hub-raw's p50 ÷ this system's p50"

func p50Ratio(base, other *measurement) float64 { return base.P50 / other.P50 }
func p99Ratio(base, other *measurement) float64 { return base.P99 / other.P99 }

// latencyScenario measures the time from a send to the reply of another client on an otherwise
// idle server.
func latencyScenario(name string, size, rounds int) *scenario {
	s := &scenario{
		name:  name,
		title: fmt.Sprintf("a message of %s bytes to another client and back, without other load", formatNumber(float64(size))),
		note: "`hub-raw` is the hub without package client: plain sockets that read and write its frames. `forward` is a program " +
			"that copies bytes from each of two sockets to the other. Each client replies in the callback in which its library delivers the message.",
		columns: latencyColumns,
		ratios: []ratio{
			{heading: "hub's p50 ÷ this system's p50", base: "hub", value: p50Ratio},
			{heading: "hub's p99 ÷ this system's p99", base: "hub", value: p99Ratio},
			{heading: rawHeading, base: "hub-raw", value: p50Ratio},
		},
		charts: []chart{{title: fmt.Sprintf("Round trip of %d bytes between two clients", size), unit: "µs", bars: latencySeries}},
	}
	for _, v := range []struct{ name, system string }{
		{"hub", "hub"}, {"hub-raw", "hub"}, {"forward", "forward"}, {"nats", "nats"}, {"redis", "redis"}, {"mosquitto", "mosquitto"},
	} {
		s.subjects = append(s.subjects, subject{v.name, []string{v.system}, func(ctx context.Context, p *programs) (*measurement, error) {
			return withServer(ctx, p, v.system, limitsRaised, func(s *server) (*measurement, error) {
				return runLoad(ctx, p, "latency", v.name, s.addr,
					"-size="+strconv.Itoa(size), "-rounds="+strconv.Itoa(rounds))
			})
		}})
	}
	return s
}
