package main

import (
	"context"
	"fmt"
	"strconv"
)

const growthActive = 10 // clients that send; the others only are there

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
			{heading: "server, CPU ns for a delivery", of: func(m *measured) float64 { return m.CPUMoving / float64(m.Deliveries) * 1e9 }},
			rateColumn,
		},
	}
	perDelivery := s.columns[0].of
	line := chart{title: "Processor time of the server for a delivery", unit: "ns", across: "clients connected"}
	for _, system := range []string{"hub", "nats"} {
		alone := growthName(system, growthConnected[0])
		others := []string{}
		points := []point{}
		for _, n := range growthConnected {
			name := growthName(system, n)
			s.subjects = append(s.subjects, subject{name, []string{system}, func(ctx context.Context) (*measured, error) {
				return b.measureGrowth(ctx, system, n)
			}})
			points = append(points, point{x: float64(n), subject: name})
			if name != alone {
				others = append(others, name)
			}
		}
		s.ratios = append(s.ratios, ratio{
			heading: "÷ with 10", base: alone, rows: others,
			of: func(base, other *measured) float64 { return perDelivery(other) / perDelivery(base) },
		})
		line.lines = append(line.lines, curve{name: system, points: points, of: perDelivery})
	}
	s.charts = []chart{line}
	return s
}

func growthName(system string, n int) string {
	return fmt.Sprintf("%s, %s connected", system, number(float64(n)))
}

// measureGrowth has n clients connected in all, and measures what the active ones
// cost.
func (b *bench) measureGrowth(ctx context.Context, system string, n int) (*measured, error) {
	return b.with(ctx, system, raised, func(s *server) (*measured, error) {
		conns, err := connect(ctx, s, n-growthActive, greetings[system])
		defer closeAll(conns)
		if err != nil {
			return nil, err
		}
		if _, err := s.settled(ctx); err != nil {
			return nil, err
		}
		before, err := s.cpu()
		if err != nil {
			return nil, err
		}
		m, err := b.move(ctx, s, "-clients="+strconv.Itoa(growthActive), "-size=128",
			"-messages="+strconv.Itoa(growthMessages[system]))
		if err != nil {
			return nil, err
		}
		after, err := s.cpu()
		m.CPUMoving = after - before
		return m, err
	})
}
