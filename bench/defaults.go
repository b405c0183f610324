package main

import "context"

// defaultsScenario measures what is lost with the default limits of the servers and of the
// client libraries.
func defaultsScenario() *scenario {
	wl := workloads["default"]
	s := &scenario{
		name:  "defaults",
		title: wl.describe() + ", with the default configuration of servers and client libraries",
		note:  "A run ends when no message has arrived for ten seconds.",
		columns: []column{
			{heading: "delivered", value: func(m *measurement) float64 { return float64(m.Deliveries) }},
			{heading: "% lost", value: func(m *measurement) float64 { return 100 * float64(m.Lost) / float64(m.Expected) }, showZero: true},
			{heading: "lost messages that the client library reported as failed", value: func(m *measurement) float64 { return float64(m.Rejected) }, showZero: true},
			{heading: "s until the last delivery", value: func(m *measurement) float64 { return m.Seconds }},
		},
		rounds: 1,
	}
	s.subjects = systemSubjects(librarySystems, func(ctx context.Context, p *programs, system string) (*measurement, error) {
		return withServer(ctx, p, system, limitsDefault, func(s *server) (*measurement, error) {
			return runMove(ctx, p, s, append(wl.loadFlags(), "-defaults")...)
		})
	})
	return s
}
