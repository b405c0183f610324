package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const (
	// loadedSeconds is how long latencies are measured under load.
	loadedSeconds = 5

	// loadedMargin is how much longer the load goes on, in seconds: the latencies
	// must all be of its time, with the start of a program in it.
	loadedMargin = 4

	loadedBytes = 128 // of each message of the load
)

// loadedScenario measures the round trip of two clients beside a hundred that send
// to each other, at half of what the system took just before.
func (b *bench) loadedScenario(name string, size int) *scenario {
	s := &scenario{
		name: name,
		title: fmt.Sprintf("a message of %s bytes to another client and back, while 100 clients send %d bytes to everyone else",
			number(float64(size)), loadedBytes),
		note: "First, in the same round, how many deliveries there are in a second at most; then the latency at half of that. " +
			"The hub is also measured at half of what NATS takes.",
		columns: append([]column{rateColumn, {
			heading: "server, cores busy", of: func(m *measured) float64 { return m.Server.CPU / m.Seconds },
		}}, latencyColumns...),
		ratios: []ratio{
			{heading: "hub's p99 ÷ its, each at half of its most", base: atHalf("hub"), rows: []string{atHalf("nats"), atHalf("redis"), atHalf("mosquitto")}, of: p99Ratio},
			{heading: "hub's p99 ÷ its, both at half of NATS's most", base: "hub, half of nats's", rows: []string{atHalf("nats")}, of: p99Ratio},
		},
		charts: []chart{{title: fmt.Sprintf("Round trip of %s bytes under load", number(float64(size))), unit: "ms", bars: []series{
			{name: "p50", of: func(m *measured) float64 { return m.P50 * 1e3 }},
			{name: "p99", of: func(m *measured) float64 { return m.P99 * 1e3 }},
		}}},
	}
	most := map[string]float64{} // deliveries a second, of this round
	for _, system := range []string{"hub", "nats", "redis", "mosquitto"} {
		s.subjects = append(s.subjects,
			subject{system + ", at most", []string{system}, func(ctx context.Context) (*measured, error) {
				p := patterns["small"]
				p.verify = "" // the load program drives the hub too, as it does at half
				m, err := b.measurePattern(ctx, system, p.of(system))
				if err == nil {
					most[system] = m.rate()
				}
				return m, err
			}},
			subject{atHalf(system), []string{system}, func(ctx context.Context) (*measured, error) {
				return b.underLoad(ctx, system, size, most[system]/2)
			}})
		if system == "nats" {
			s.subjects = append(s.subjects, subject{"hub, half of nats's", []string{"hub", "nats"}, func(ctx context.Context) (*measured, error) {
				return b.underLoad(ctx, "hub", size, most["nats"]/2)
			}})
		}
	}
	return s
}

func atHalf(system string) string { return system + ", half of its own" }

// underLoad measures latencies while a load moves so many deliveries a second.
func (b *bench) underLoad(ctx context.Context, system string, size int, rate float64) (*measured, error) {
	return b.with(ctx, system, raised, func(s *server) (*measured, error) {
		background, err := startLoad(ctx, b.programs, "move", system, s.addr, "-size="+strconv.Itoa(loadedBytes), "-clients=100",
			"-rate="+strconv.FormatFloat(rate, 'f', 0, 64), "-seconds="+strconv.Itoa(loadedSeconds+loadedMargin))
		if err != nil {
			return nil, err
		}
		if err := background.moving(); err != nil {
			return nil, err
		}
		begin := time.Now()
		m, err := load(ctx, b.programs, "latency", system, s.addr, "-size="+strconv.Itoa(size),
			"-rounds="+strconv.Itoa(1<<30), "-seconds="+strconv.Itoa(loadedSeconds))
		if err != nil {
			background.kill()
			return nil, err
		}
		took := time.Since(begin).Seconds()
		moved, err := background.finish()
		if err != nil {
			return nil, err
		}
		if moved.Seconds < took {
			return nil, fmt.Errorf("the load was over after %.1f s, the measurement after %.1f", moved.Seconds, took)
		}
		m.Seconds, m.Deliveries, m.Expected, m.Lost, m.Problem = moved.Seconds, moved.Deliveries, moved.Expected, moved.Lost, moved.Problem
		return m, m.acceptable(system)
	})
}
