package main

import "context"

// rateHeading is the heading of the ratio that the smoke scenarios check.
const rateHeading = "hub's rate ÷ this system's rate"

// newWorkloadScenario measures a workload.
// throughputScenario measures a workload at the maximum rate.
func throughputScenario(name string, wl workload) *scenario {
	s := &scenario{
		name: name, title: wl.describe(), note: wl.describeDriving(),
		columns: throughputColumns(wl.size),
		ratios: []ratio{
			{heading: rateHeading, base: "hub", value: func(hub, other *measurement) float64 { return hub.rate() / other.rate() }},
			{heading: "hub's CPU ÷ this system's CPU, server and clients", base: "hub", value: func(hub, other *measurement) float64 { return hub.cpuPerDelivery() / other.cpuPerDelivery() }},
		},
		charts: []chart{{title: wl.describeShortly(), unit: rateColumn.heading, bars: []series{{value: rateColumn.value}}}},
	}
	s.subjects = systemSubjects(wl.systems, func(ctx context.Context, p *programs, system string) (*measurement, error) {
		return measureWorkload(ctx, p, system, wl.forSystem(system))
	})
	return s
}

var rateColumn = column{heading: "million deliveries/s", value: func(m *measurement) float64 { return m.rate() / 1e6 }}

// throughputColumns returns the columns of a workload with bodies of size bytes. Processor times
// are for each delivery, because some systems get fewer messages.
func throughputColumns(size int) []column {
	megabyte := float64(size) / 1e6
	return []column{
		rateColumn,
		{heading: "MB/s of bodies", value: func(m *measurement) float64 { return m.rate() * megabyte }},
		{heading: "server, peak resident MiB", value: func(m *measurement) float64 { return m.Server.PeakMiB }},
		{heading: "server, CPU µs per delivery", value: func(m *measurement) float64 { return m.Server.CPU / float64(m.Deliveries) * 1e6 }},
		{heading: "clients, CPU µs per delivery", value: func(m *measurement) float64 { return m.LoadCPU / float64(m.Deliveries) * 1e6 }},
	}
}

// measureWorkload runs a workload once, on a new server.
func measureWorkload(ctx context.Context, p *programs, system string, wl workload) (*measurement, error) {
	if system == "limit" {
		return measureLimit(ctx, p, wl, nil)
	}
	return withServer(ctx, p, system, limitsRaised, func(s *server) (*measurement, error) {
		if system == "hub" && wl.verify != "" {
			return simulate(ctx, p, wl, addrFlags(s.addr)...)
		}
		return runMove(ctx, p, s, wl.loadFlags()...)
	})
}
