package main

import "context"

// tlsScenario measures the hub over TLS and bare connections of crypto/tls.
func tlsScenario(name string, wl workload) *scenario {
	const hub, limit = "hub", "limit"
	s := newCostScenario(name, wl.describe()+", over TLS 1.3",
		"`start_simulation -i=0 -verify="+wl.verify+"` drives the hub. The limit is two processes with the same number of crypto/tls connections: "+
			"one writes the same bytes, 64 KiB at a time, and the other reads and discards them.", limit)
	s.subjects = []subject{
		{hub, []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return measureFeatures(ctx, p, wl, 1, hubFeatures{hasTLS: true})
		}},
		{limit, []string{"limit"}, func(ctx context.Context, p *programs) (*measurement, error) {
			creds, err := newCredentials(p)
			if err != nil {
				return nil, err
			}
			return measureLimit(ctx, p, wl, creds)
		}},
	}
	return s
}
