package main

import "testing"

func TestSelect_RejectsUnknownNames(t *testing.T) {
	b := &bench{systems: []string{"hub"}}
	if _, err := b.selectScenarios("default,nonsense"); err == nil {
		t.Error("no error for an unknown scenario")
	}
	if _, err := selectSystems("hub,nonsense"); err == nil {
		t.Error("no error for an unknown system")
	}
	b.systems = []string{"mosquitto"}
	if _, err := b.selectScenarios("heavy"); err == nil {
		t.Error("no error although there is nothing to measure")
	}
}

// TestScenarios_AreConsistent makes all scenarios and checks that their subjects and headings
// are unique and that their ratios and thresholds refer to existing subjects.
func TestScenarios_AreConsistent(t *testing.T) {
	b := &bench{systems: []string{"hub", "limit", "forward", "nats", "redis", "mosquitto"}}
	for _, names := range []string{"all", "smoke"} {
		selected, err := b.selectScenarios(names)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range selected {
			checkScenario(t, s)
		}
	}
}

func checkScenario(t *testing.T, s *scenario) {
	t.Helper()
	subjects, headings := map[string]bool{}, map[string]bool{}
	for _, sub := range s.subjects {
		if subjects[sub.name] {
			t.Errorf("%s: two subjects %q", s.name, sub.name)
		}
		subjects[sub.name] = true
	}
	for _, c := range s.columns {
		if headings[c.heading] {
			t.Errorf("%s: two columns %q", s.name, c.heading)
		}
		headings[c.heading] = true
	}
	for _, r := range s.ratios {
		for _, name := range append(r.rows, r.base) {
			// A smoke scenario has only some subjects of its full scenario.
			if !subjects[name] && s.thresholds == nil {
				t.Errorf("%s: %q refers to %q, which is not measured", s.name, r.heading, name)
			}
		}
	}
	for _, th := range s.thresholds {
		if !subjects[th.row] {
			t.Errorf("%s: a threshold for %q, which is not measured", s.name, th.row)
		}
	}
}

func TestWorkload_ForSystem(t *testing.T) {
	wl := workload{clients: 10, randomReceivers: 3, messages: 100, divisors: map[string]int{"nats": 4}}
	if n := wl.forSystem("hub"); n.deliveries() != 3000 {
		t.Errorf("%d deliveries of the hub, want 3000", n.deliveries())
	}
	if n := wl.forSystem("nats"); n.deliveries() != 750 {
		t.Errorf("%d deliveries of nats, want 750", n.deliveries())
	}
	wl = workload{clients: 10, senders: 2, messages: 5}
	if n := wl.deliveries(); n != 90 {
		t.Errorf("%d deliveries, want 90", n)
	}
}
