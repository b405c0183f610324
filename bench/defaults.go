package main

import "context"

// defaultsScenario measures what is lost where nobody has raised a limit, of the
// server or of the client library.
func (b *bench) defaultsScenario() *scenario {
	p := patterns["default"]
	s := &scenario{
		name:  "defaults",
		title: p.title() + ", with servers and client libraries as they come",
		note:  "A run is over when nothing has arrived for ten seconds.",
		columns: []column{
			{heading: "delivered", of: func(m *measured) float64 { return float64(m.Deliveries) }},
			{heading: "% lost", of: func(m *measured) float64 { return 100 * float64(m.Lost) / float64(m.Expected) }, zero: true},
			{heading: "of those refused by the client library", of: func(m *measured) float64 { return float64(m.Refused) }, zero: true},
			{heading: "s until the last delivery", of: func(m *measured) float64 { return m.Seconds }},
		},
		rounds: 1,
	}
	for _, system := range []string{"hub", "nats", "redis", "mosquitto"} {
		s.subjects = append(s.subjects, subject{system, []string{system}, func(ctx context.Context) (*measured, error) {
			return b.with(ctx, system, asItComes, func(s *server) (*measured, error) {
				return b.move(ctx, s, append(p.flags(), "-defaults")...)
			})
		}})
	}
	return s
}
