package main

import (
	"context"
	"fmt"
	"strconv"
)

const growthSenders = 10 // clients that send; the others are idle

// growthConnected are the numbers of connected clients, including those that send.
var growthConnected = []int{10, 100, 1000, 10_000}

// growthMessages is the number of messages that each sender sends to the nine others. It gives
// about one second of the server's processor time, which /proc counts in hundredths of a
// second.
var growthMessages = map[string]int{"hub": 150_000, "nats": 30_000}

// growthScenario measures whether the cost of a delivery depends on the number of connections.
func growthScenario(connected []int, messages map[string]int) *scenario {
	s := &scenario{
		name:  "growth",
		title: "10 clients send 128 bytes to each other while other clients are connected: processor time of the server per delivery",
		note:  "The other clients are connected as in the idle scenario and have no subscription.",
		columns: []column{
			{heading: "server, CPU ns per delivery", value: func(m *measurement) float64 { return m.MovingCPU / float64(m.Deliveries) * 1e9 }},
			rateColumn,
		},
	}
	perDelivery := s.columns[0].value
	ch := chart{title: "Processor time of the server per delivery", unit: "ns", xLabel: "clients connected"}
	for _, system := range []string{"hub", "nats"} {
		baseline := growthSubject(system, connected[0])
		others := []string{}
		points := []point{}
		for _, n := range connected {
			name := growthSubject(system, n)
			s.subjects = append(s.subjects, subject{name, []string{system}, func(ctx context.Context, p *programs) (*measurement, error) {
				return measureGrowth(ctx, p, system, n, messages[system])
			}})
			points = append(points, point{x: float64(n), subject: name})
			if name != baseline {
				others = append(others, name)
			}
		}
		s.ratios = append(s.ratios, ratio{
			heading: "CPU ÷ CPU with 10 connected", base: baseline, rows: others,
			value: func(base, other *measurement) float64 { return perDelivery(other) / perDelivery(base) },
		})
		ch.curves = append(ch.curves, curve{name: system, points: points, value: perDelivery})
	}
	s.charts = []chart{ch}
	return s
}

func growthSubject(system string, n int) string {
	return fmt.Sprintf("%s, %s connected", system, formatNumber(float64(n)))
}

// measureGrowth connects n clients in total and measures the processor time of the server for
// the deliveries to the senders.
func measureGrowth(ctx context.Context, p *programs, system string, n, messages int) (*measurement, error) {
	return withServer(ctx, p, system, limitsRaised, func(s *server) (*measurement, error) {
		conns, err := openConns(ctx, s, n-growthSenders, greetFuncs[system])
		defer closeAll(conns)
		if err != nil {
			return nil, err
		}
		if _, err := s.stableMemoryMiB(ctx); err != nil {
			return nil, err
		}
		before, err := s.cpuSeconds()
		if err != nil {
			return nil, err
		}
		m, err := runMove(ctx, p, s, "-clients="+strconv.Itoa(growthSenders), "-size=128",
			"-messages="+strconv.Itoa(messages))
		if err != nil {
			return nil, err
		}
		after, err := s.cpuSeconds()
		m.MovingCPU = after - before
		return m, err
	})
}
