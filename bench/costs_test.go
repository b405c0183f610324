package main

import "testing"

// TestCostScenarios_EachVariant starts the hub in every variant that the scenarios compare.
func TestCostScenarios_EachVariant(t *testing.T) {
	wl := workload{clients: 10, messages: 50, size: 1024, verify: "full"}
	for _, s := range []*scenario{
		version2Scenario("version2", wl),
		tlsScenario("tls", wl),
		safetyScenario("safety", wl),
		tracesScenario("traces", wl, 2),
	} {
		t.Run(s.name, func(t *testing.T) {
			r := measureOnce(t, s, "hub", "limit")
			for name, m := range r.Rounds[0] {
				if m.Deliveries != wl.deliveries() || m.Server.CPU+m.LoadCPU <= 0 {
					t.Errorf("%s: %+v", name, m)
				}
			}
		})
	}
}
