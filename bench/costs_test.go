package main

import "testing"

// Each of these starts the hub in every variant that the scenario compares.
func TestCostScenarios(t *testing.T) {
	b := newBench(t, "hub", "limit")
	p := pattern{clients: 10, messages: 50, size: 1024, verify: "full"}
	for _, s := range []*scenario{
		b.version2Scenario("version2", p),
		b.tlsScenario("tls", p),
		b.safetyScenario("safety", p),
		b.tracesScenario("traces", p, 2),
	} {
		t.Run(s.name, func(t *testing.T) {
			r := measureOnce(t, s, b)
			for name, m := range r.Rounds[0] {
				if m.Deliveries != p.deliveries() || m.Server.CPU+m.LoadCPU <= 0 {
					t.Errorf("%s: %+v", name, m)
				}
			}
		})
	}
}
