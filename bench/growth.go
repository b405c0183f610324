package main

import (
	"context"
	"fmt"
	"strconv"
)

const growthSenders = 10 // clients that send; the others only are there

// growthConnected is how many clients are connected in all.
var growthConnected = []int{10, 100, 1000, 10_000}

// growthMessages is how many messages each active client sends to the nine others:
// enough for a second of the server's processor time, of which /proc counts
// hundredths.
var growthMessages = map[string]int{"hub": 150_000, "nats": 30_000}

// growthScenario measures whether a delivery costs more where more are connected.
func (b *bench) growthScenario() *scenario {
	s := &scenario{
		name:  "growth",
		title: "10 clients send 128 bytes to each other while others are connected: processor time of the server for a delivery",
		note:  "The others are connected as in the idle scenario, and have no subscription.",
		columns: []column{
			{heading: "server, CPU ns for a delivery", value: func(m *measurement) float64 { return m.MovingCPU / float64(m.Deliveries) * 1e9 }},
			rateColumn,
		},
	}
	perDelivery := s.columns[0].value
	ch := chart{title: "Processor time of the server for a delivery", unit: "ns", xLabel: "clients connected"}
	for _, system := range []string{"hub", "nats"} {
		baseline := growthSubject(system, growthConnected[0])
		others := []string{}
		points := []point{}
		for _, n := range growthConnected {
			name := growthSubject(system, n)
			s.subjects = append(s.subjects, subject{name, []string{system}, func(ctx context.Context) (*measurement, error) {
				return b.measureGrowth(ctx, system, n)
			}})
			points = append(points, point{x: float64(n), subject: name})
			if name != baseline {
				others = append(others, name)
			}
		}
		s.ratios = append(s.ratios, ratio{
			heading: "÷ with 10", base: baseline, rows: others,
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

// measureGrowth has n clients connected in all, and measures what the active ones
// cost.
func (b *bench) measureGrowth(ctx context.Context, system string, n int) (*measurement, error) {
	return b.withServer(ctx, system, limitsRaised, func(s *server) (*measurement, error) {
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
		m, err := b.measureMove(ctx, s, "-clients="+strconv.Itoa(growthSenders), "-size=128",
			"-messages="+strconv.Itoa(growthMessages[system]))
		if err != nil {
			return nil, err
		}
		after, err := s.cpuSeconds()
		m.MovingCPU = after - before
		return m, err
	})
}
