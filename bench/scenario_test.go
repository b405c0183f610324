package main

import "testing"

func TestUnknownNames(t *testing.T) {
	b := &bench{systems: []string{"hub"}}
	if _, err := b.chooseScenarios("default,nonsense"); err == nil {
		t.Error("no error, and there is no such scenario")
	}
	if _, err := chooseSystems("hub,nonsense"); err == nil {
		t.Error("no error, and there is no such system")
	}
	b.systems = []string{"mosquitto"}
	if _, err := b.chooseScenarios("heavy"); err == nil {
		t.Error("no error, and there is nothing to measure")
	}
}

// TestScenarios makes all of them, and looks whether their figures can be told
// apart and their ratios refer to what is there.
func TestScenarios(t *testing.T) {
	b := &bench{systems: []string{"hub", "limit", "forward", "nats", "redis", "mosquitto"}}
	for _, names := range []string{"all", "smoke"} {
		all, err := b.chooseScenarios(names)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			checkScenario(t, s)
		}
	}
}

func checkScenario(t *testing.T, s *scenario) {
	t.Helper()
	subjects, headings := map[string]bool{}, map[string]bool{}
	for _, one := range s.subjects {
		if subjects[one.name] {
			t.Errorf("%s: two subjects %q", s.name, one.name)
		}
		subjects[one.name] = true
	}
	for _, c := range s.columns {
		if headings[c.heading] {
			t.Errorf("%s: two columns %q", s.name, c.heading)
		}
		headings[c.heading] = true
	}
	for _, r := range s.ratios {
		for _, name := range append(r.rows, r.base) {
			// A smoke scenario has some subjects of the one that it is a part of.
			if !subjects[name] && s.bars == nil {
				t.Errorf("%s: %q refers to %q, which is not measured", s.name, r.heading, name)
			}
		}
	}
	for _, bar := range s.bars {
		if !subjects[bar.row] {
			t.Errorf("%s: a bar for %q, which is not measured", s.name, bar.row)
		}
	}
}

func TestPatternOf(t *testing.T) {
	p := pattern{clients: 10, to: 3, messages: 100, fewer: map[string]int{"nats": 4}}
	if n := p.of("hub"); n.deliveries() != 3000 {
		t.Errorf("%d deliveries of the hub, want 3000", n.deliveries())
	}
	if n := p.of("nats"); n.deliveries() != 750 {
		t.Errorf("%d deliveries of nats, want 750", n.deliveries())
	}
	p = pattern{clients: 10, senders: 2, messages: 5}
	if n := p.deliveries(); n != 90 {
		t.Errorf("%d deliveries, want 90", n)
	}
}
