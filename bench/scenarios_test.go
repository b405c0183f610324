package main

import "testing"

func TestSelect_RejectsUnknownNames(t *testing.T) {
	systems := []string{"hub"}
	if _, err := selectScenarios("default,nonsense", systems, settings{}); err == nil {
		t.Error("no error for an unknown scenario")
	}
	if _, err := selectSystems("hub,nonsense"); err == nil {
		t.Error("no error for an unknown system")
	}
	if _, err := selectScenarios("heavy", []string{"mosquitto"}, settings{}); err == nil {
		t.Error("no error although there is nothing to measure")
	}
}

// TestScenarios_AreConsistent makes all scenarios and checks that their subjects and headings
// are unique and that their ratios and thresholds refer to existing subjects.
func TestScenarios_AreConsistent(t *testing.T) {
	systems := []string{"hub", "limit", "forward", "nats", "chat", "redis", "mosquitto"}
	for _, names := range []string{"all", "smoke"} {
		selected, err := selectScenarios(names, systems, settings{})
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
