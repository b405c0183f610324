package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const (
	// loadedSeconds is the duration of a latency measurement under load.
	loadedSeconds = 5

	// loadedMarginSeconds is how much longer the load lasts, in seconds. The load must cover the
	// whole measurement and the start of its program.
	loadedMarginSeconds = 4

	loadedBodySize = 128 // body size of the load's messages
)

// loadedScenario measures the round trip of two clients while a hundred other clients send to
// each other, at half of the maximum rate that was measured just before.
func loadedScenario(name string, size, seconds int) *scenario {
	s := &scenario{
		name: name,
		title: fmt.Sprintf("a message of %s bytes to another client and back, while 100 clients send %d bytes to everyone else",
			formatNumber(float64(size)), loadedBodySize),
		note: "Each round measures the maximum rate of a system first, and then the latency at half of this rate. " +
			"The hub is also measured at half of nats-server's maximum.",
		columns: append([]column{rateColumn, {
			heading: "server, cores busy", value: func(m *measurement) float64 { return m.Server.CPU / m.Seconds },
		}}, latencyColumns...),
		ratios: []ratio{
			{heading: "hub's p99 ÷ this system's p99, each at half of its maximum", base: atHalfRate("hub"), rows: []string{atHalfRate("nats"), atHalfRate("redis"), atHalfRate("mosquitto")}, value: p99Ratio},
			{heading: "hub's p99 ÷ nats's p99, both at half of nats's maximum", base: "hub, at half of nats's maximum", rows: []string{atHalfRate("nats")}, value: p99Ratio},
		},
		charts: []chart{{title: fmt.Sprintf("Round trip of %s bytes under load", formatNumber(float64(size))), unit: "ms", bars: []series{
			{name: "p50", value: func(m *measurement) float64 { return m.P50 * 1e3 }},
			{name: "p99", value: func(m *measurement) float64 { return m.P99 * 1e3 }},
		}}},
	}
	maxRates := map[string]float64{} // deliveries a second, of this round
	for _, system := range librarySystems {
		s.subjects = append(s.subjects,
			subject{system + ", maximum", []string{system}, func(ctx context.Context, p *programs) (*measurement, error) {
				wl := workloads["small"]
				wl.verify = "" // the load program drives the hub, as it does at half of the rate
				m, err := measureWorkload(ctx, p, system, wl.forSystem(system))
				if err == nil {
					maxRates[system] = m.rate()
				}
				return m, err
			}},
			subject{atHalfRate(system), []string{system}, func(ctx context.Context, p *programs) (*measurement, error) {
				return measureUnderLoad(ctx, p, system, size, seconds, maxRates[system]/2)
			}})
		if system == "nats" {
			s.subjects = append(s.subjects, subject{"hub, at half of nats's maximum", []string{"hub", "nats"}, func(ctx context.Context, p *programs) (*measurement, error) {
				return measureUnderLoad(ctx, p, "hub", size, seconds, maxRates["nats"]/2)
			}})
		}
	}
	return s
}

func atHalfRate(system string) string { return system + ", at half of its maximum" }

// measureUnderLoad measures latencies while a load makes rate deliveries a second.
func measureUnderLoad(ctx context.Context, p *programs, system string, size, seconds int, rate float64) (*measurement, error) {
	return withServer(ctx, p, system, limitsRaised, func(s *server) (*measurement, error) {
		background, err := startLoad(ctx, p, "move", system, s.addr, "-size="+strconv.Itoa(loadedBodySize), "-clients=100",
			"-rate="+strconv.FormatFloat(rate, 'f', 0, 64), "-seconds="+strconv.Itoa(seconds+loadedMarginSeconds))
		if err != nil {
			return nil, err
		}
		elapsed := 0.0
		m, loadResult, err := background.during(func() (*measurement, error) {
			begin := time.Now()
			m, err := runLoad(ctx, p, "latency", system, s.addr, "-size="+strconv.Itoa(size),
				"-rounds="+strconv.Itoa(1<<30), "-seconds="+strconv.Itoa(seconds))
			elapsed = time.Since(begin).Seconds()
			return m, err
		})
		if err != nil {
			return nil, err
		}
		if loadResult.Seconds < elapsed {
			return nil, fmt.Errorf("the load ended after %.1f s, the measurement after %.1f s", loadResult.Seconds, elapsed)
		}
		m.Seconds, m.Deliveries, m.Expected, m.Lost, m.Problem = loadResult.Seconds, loadResult.Deliveries, loadResult.Expected, loadResult.Lost, loadResult.Problem
		return m, m.validate(system)
	})
}
