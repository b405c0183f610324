package main

import "testing"

func TestThroughputScenario_HubAndLimit(t *testing.T) {
	systems := []string{"hub", "limit"}
	measureOnce(t, throughputScenario("test", workload{
		clients: 10, messages: 20, size: 1024, verify: "full", systems: systems,
	}), systems...)
}

func TestThroughputScenario_EachSystem(t *testing.T) {
	for _, system := range librarySystems {
		for name, wl := range map[string]workload{
			"everyone":  {clients: 10, messages: 50, size: 16},
			"scattered": {clients: 10, randomReceivers: 3, messages: 50, size: 1024},
			"one":       {clients: 2, senders: 1, messages: 1000, size: 128},
		} {
			t.Run(system+"/"+name, func(t *testing.T) {
				wl.systems = []string{system}
				r := measureOnce(t, throughputScenario("test", wl), system)
				if m := r.Rounds[0][system]; m.Deliveries != wl.deliveries() || m.Server.PeakMiB <= 0 {
					t.Errorf("%+v", m)
				}
			})
		}
	}
}
