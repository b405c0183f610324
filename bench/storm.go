package main

import (
	"context"
	"fmt"
	"strconv"
)

const (
	stormClients  = 15_000 // that connect and leave, in total
	stormParallel = 64
)

// stormScenario measures how fast clients can connect, learn their id and leave.
func stormScenario(n int) *scenario {
	s := &scenario{
		name:  "storm",
		title: fmt.Sprintf("%s clients connect, get their id and disconnect, %d at a time", formatNumber(float64(n)), stormParallel),
		note:  "An MQTT client gets no id. The broker's `CONNACK` counts instead.",
		columns: []column{
			{heading: "clients/s", value: func(m *measurement) float64 { return m.visitRate() }},
			{heading: "server, CPU s", value: func(m *measurement) float64 { return m.Server.CPU }},
			{heading: "clients, CPU s", value: func(m *measurement) float64 { return m.LoadCPU }},
			{heading: "server, peak resident MiB", value: func(m *measurement) float64 { return m.Server.PeakMiB }},
		},
		ratios: []ratio{{heading: "hub's rate ÷ this system's rate", base: "hub", value: func(hub, other *measurement) float64 { return hub.visitRate() / other.visitRate() }}},
	}
	s.charts = []chart{{title: "Clients that connect, get their id and disconnect", unit: "clients/s", bars: []series{{value: s.columns[0].value}}}}
	s.subjects = systemSubjects(librarySystems, func(ctx context.Context, p *programs, system string) (*measurement, error) {
		return withServer(ctx, p, system, limitsRaised, func(s *server) (*measurement, error) {
			return runLoad(ctx, p, "storm", system, s.addr, "-clients="+strconv.Itoa(n), "-parallel="+strconv.Itoa(stormParallel))
		})
	})
	return s
}
