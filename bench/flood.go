package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	floodSeconds         = 8   // duration of a measurement without and with flood
	floodMarginSeconds   = 4   // how much longer the flood lasts
	floodRoundsPerSecond = 500 // round trips of the measured clients
	floodClients         = 20  // clients that send messages, each with its own subject

	// floodConnectRate is the number of connection attempts a second, 20 times the limit of the
	// hub. It is limited because hub, flood and bystanders share the machine: on a saturated
	// processor the measurement would say nothing about the hub.
	floodConnectRate = 2000

	// floodNice is the niceness of the flood. It gives the other processes priority, because a
	// real flood would use the processors of another machine. If bench runs with a real-time
	// priority (chrt -f), the flood does not.
	floodNice = 10

	// floodUnboundedRate is a connection rate above what is possible.
	floodUnboundedRate = 1_000_000
)

// floodLimitFlags are the limits of the hub under measurement.
var floodLimitFlags = []string{"-max-per-address=20", "-connect-rate=100", "-rate-messages=2000", "-rate-bytes=1MiB"}

// floodScenario measures what a flood from one address costs clients of another address, on a
// hub that limits addresses and clients.
func floodScenario(seconds int) *scenario {
	const quiet = "no flood"
	s := &scenario{
		name: "flood",
		title: fmt.Sprintf("a message of 128 bytes to another client and back, %d times a second, while another address floods the hub",
			floodRoundsPerSecond),
		note: "`start_server` with `-auth-keys`, `-max-per-address=20`, `-connect-rate=100`, `-rate-messages=2000` and `-rate-bytes=1MiB`. The measured clients " +
			"connect from 127.0.0.1 with tokens and verify every reply. The time of a late round trip counts from when it was due. The flood comes from 127.0.0.2: connections that send nothing, " +
			"connections that send, in turn, an HTTP request and a HELLO with a token of an unknown key, and 20 clients with valid tokens that send 128 bytes to each other as fast as they can. " +
			fmt.Sprintf("The flood attempts %s connections a second, 20 times the limit, or as many as possible. It runs with a lower priority than the hub and the measured clients, because it shares two cores with them. ", formatNumber(floodConnectRate)) +
			"Attempts are connections, or messages that the client library accepted.",
		columns: append(slices.Clone(latencyColumns),
			column{heading: "attempts/s", value: func(m *measurement) float64 { return float64(m.Attempts) / m.Seconds }},
			column{heading: "% of connections rejected", value: func(m *measurement) float64 { return 100 * float64(m.Rejected) / float64(max(1, m.Attempts)) }},
			column{heading: "server, cores busy", value: func(m *measurement) float64 { return m.MovingCPU / m.MeasureSeconds }},
			column{heading: "server, peak resident MiB", value: func(m *measurement) float64 { return m.Server.PeakMiB }},
		),
		ratios: []ratio{
			{heading: "p50 ÷ p50 without flood", base: quiet, value: func(base, other *measurement) float64 { return other.P50 / base.P50 }},
			{heading: "p99 ÷ p99 without flood", base: quiet, value: func(base, other *measurement) float64 { return other.P99 / base.P99 }},
		},
	}
	for _, v := range []struct {
		name, kind string
		rate       int
	}{
		{quiet, "", 0},
		{"connections", "connects", floodConnectRate},
		{"connections, unlimited rate", "connects", floodUnboundedRate},
		{"without valid tokens", "strangers", floodConnectRate},
		{"messages", "messages", floodConnectRate},
	} {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return measureFlood(ctx, p, v.kind, v.rate, seconds)
		}})
	}
	return s
}

// measureFlood measures latencies on a hub with limits during a flood of the given kind. The
// kind "" is no flood.
func measureFlood(ctx context.Context, p *programs, kind string, rate, seconds int) (*measurement, error) {
	keys, signed, err := makeAuthKeys(p, "flood", 1+floodClients) // limits are per subject
	if err != nil {
		return nil, err
	}
	bystanderToken, floodTokens := signed[0], signed[1:]
	if kind == "strangers" {
		if _, floodTokens, err = makeAuthKeys(p, "strangers", 1); err != nil {
			return nil, err
		}
	}
	return withHub(ctx, p, append(slices.Clone(floodLimitFlags), "-auth-keys="+keys), func(s *server) (*measurement, error) {
		if kind == "" {
			return measureBystander(ctx, p, s, bystanderToken, seconds)
		}
		flood, err := startLoadCommand(exec.CommandContext(ctx, "chrt", "-o", "0", "nice", "-n", strconv.Itoa(floodNice), p.path("load"),
			"flood", "-addr="+s.addr, "-token="+strings.Join(floodTokens, ","), "-kind="+kind, "-clients="+strconv.Itoa(floodClients),
			"-rate="+strconv.Itoa(rate), "-seconds="+strconv.Itoa(seconds+floodMarginSeconds)))
		if err != nil {
			return nil, err
		}
		m, f, err := flood.during(func() (*measurement, error) {
			return measureBystander(ctx, p, s, bystanderToken, seconds)
		})
		if err != nil {
			return nil, err
		}
		if f.Seconds < m.MeasureSeconds {
			return nil, fmt.Errorf("the flood was over after %.1f s, the measurement after %.1f", f.Seconds, m.MeasureSeconds)
		}
		m.Seconds, m.Attempts, m.Rejected, m.LoadCPU = f.Seconds, f.Attempts, f.Rejected, f.LoadCPU
		return m, nil
	})
}

// measureBystander measures latencies at a moderate rate, and the processor time of the server
// during the measurement.
func measureBystander(ctx context.Context, p *programs, s *server, token string, seconds int) (*measurement, error) {
	before, err := s.cpuSeconds()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	m, err := runLoad(ctx, p, "latency", "hub", s.addr, "-token="+token, "-size=128", "-rate="+strconv.Itoa(floodRoundsPerSecond),
		"-rounds="+strconv.Itoa(1<<30), "-seconds="+strconv.Itoa(seconds))
	if err != nil {
		return nil, err
	}
	m.MeasureSeconds = time.Since(begin).Seconds()
	m.Seconds = m.MeasureSeconds
	after, err := s.cpuSeconds()
	m.MovingCPU = after - before
	return m, err
}
