package main

import "context"

// safetyScenario measures the cost of a hub that is safe to expose relative to a hub with TLS
// only, and the cost of metrics relative to a plain hub.
func safetyScenario(name string, wl workload) *scenario {
	const plain, secure, safe = "plain", "TLS", "TLS, tokens, limits and metrics"
	s := newCostScenario(name, wl.describe()+", in version 2, with security features and metrics",
		"`start_server` and `start_simulation -i=0 -protocol=2 -verify="+wl.verify+"`. Tokens: `-auth-keys` and `-token-file`. Limits: `-rate-messages`, "+
			"`-rate-bytes`, `-max-per-address` and `-connect-rate`, none of which is reached. Metrics: the admin address, with a scrape every half second.", plain)
	s.ratios = append(s.ratios, costRatios(secure, safe)...)
	for _, v := range []struct {
		name string
		hubFeatures
	}{
		{name: plain},
		{"metrics", hubFeatures{isMonitored: true}},
		{secure, hubFeatures{hasTLS: true}},
		{safe, hubFeatures{hasTLS: true, hasTokens: true, isMonitored: true}},
	} {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return measureFeatures(ctx, p, wl, 2, v.hubFeatures)
		}})
	}
	return s
}
