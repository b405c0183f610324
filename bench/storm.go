package main

import (
	"context"
	"fmt"
	"strconv"
)

const (
	stormClients = 15_000 // that come and go
	stormAtOnce  = 64
)

// stormScenario measures how fast clients can connect, learn their id and leave.
func (b *bench) stormScenario(n int) *scenario {
	s := &scenario{
		name:  "storm",
		title: fmt.Sprintf("%s clients connect, learn their id and leave, %d at a time", number(float64(n)), stormAtOnce),
		note:  "An MQTT client is told no id; the broker's acknowledgement of the connection stands for it.",
		columns: []column{
			{heading: "clients/s", of: func(m *measured) float64 { return m.visitRate() }},
			{heading: "server, CPU s", of: func(m *measured) float64 { return m.Server.CPU }},
			{heading: "clients, CPU s", of: func(m *measured) float64 { return m.LoadCPU }},
			{heading: "server, peak resident MiB", of: func(m *measured) float64 { return m.Server.PeakMiB }},
		},
		ratios: []ratio{{heading: "hub's rate ÷ its", base: "hub", of: func(hub, it *measured) float64 { return hub.visitRate() / it.visitRate() }}},
	}
	s.charts = []chart{{title: "Clients that connect, learn their id and leave", unit: "clients/s", bars: []series{{of: s.columns[0].of}}}}
	for _, system := range []string{"hub", "nats", "redis", "mosquitto"} {
		s.subjects = append(s.subjects, subject{system, []string{system}, func(ctx context.Context) (*measured, error) {
			return b.with(ctx, system, raised, func(s *server) (*measured, error) {
				return load(ctx, b.programs, "storm", system, s.addr, "-clients="+strconv.Itoa(n), "-parallel="+strconv.Itoa(stormAtOnce))
			})
		}})
	}
	return s
}
