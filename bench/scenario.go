package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// bench is the configuration that all scenarios share.
type bench struct {
	programs     *programs
	systems      []string // to measure
	soakDuration time.Duration
	verify       string // -verify of start_simulation; "" for that of the scenario
}

// scenario is one measurement: its subjects and the table and charts of its results.
type scenario struct {
	name  string
	title string // what is measured
	note  string // Markdown below the table

	// rounds is the number of rounds; 0 for that of the -pairs flag.
	rounds int

	subjects []subject
	columns  []column
	ratios   []ratio
	charts   []chart

	// thresholds are checked against the result; they can be nil.
	thresholds []threshold
}

// subject is measured once in each round. It is mostly a system, and then has the name of the
// system.
type subject struct {
	name    string
	systems []string // systems that it needs
	measure func(context.Context) (*measurement, error)
}

// column is a figure in the table.
type column struct {
	heading  string
	value    func(*measurement) float64
	showZero bool // 0 is a value; otherwise 0 means that there is none
}

// ratio is a figure that relates two measurements of the same round.
type ratio struct {
	heading string
	base    string   // the subject that others are compared with
	rows    []string // the other subjects; nil for all
	value   func(base, other *measurement) float64
}

// appliesTo reports whether a subject has that ratio.
func (r *ratio) appliesTo(subject string) bool {
	return subject != r.base && (r.rows == nil || slices.Contains(r.rows, subject))
}

// scenarios are all scenarios, in the order in which they run. build makes the scenario for
// the systems of a bench.
var scenarios = []struct {
	name  string
	build func(*bench) *scenario
}{
	{"default", func(b *bench) *scenario { return b.workloadScenario("default") }},
	{"small", func(b *bench) *scenario { return b.workloadScenario("small") }},
	{"scattered", func(b *bench) *scenario { return b.workloadScenario("scattered") }},
	{"tiny16", func(b *bench) *scenario { return b.workloadScenario("tiny16") }},
	{"tiny128", func(b *bench) *scenario { return b.workloadScenario("tiny128") }},
	{"heavy", func(b *bench) *scenario { return b.workloadScenario("heavy") }},
	{"latency128", func(b *bench) *scenario { return b.latencyScenario("latency128", 128, latencyRounds) }},
	{"latency10k", func(b *bench) *scenario { return b.latencyScenario("latency10k", 10240, latencyRounds) }},
	{"loaded", func(b *bench) *scenario { return b.loadedScenario("loaded", 128) }},
	{"loaded10k", func(b *bench) *scenario { return b.loadedScenario("loaded10k", 10240) }},
	{"idle", func(b *bench) *scenario { return b.idleScenario(idleClients) }},
	{"storm", func(b *bench) *scenario { return b.stormScenario(stormClients) }},
	{"growth", func(b *bench) *scenario { return b.growthScenario() }},
	{"list", func(b *bench) *scenario { return b.listScenario(listClients, listSeconds) }},
	{"flood", func(b *bench) *scenario { return b.floodScenario(floodSeconds) }},
	{"hostile", func(b *bench) *scenario { return b.hostileScenario(hostileConns, hostileSeconds) }},
	{"holders", func(b *bench) *scenario { return b.holdersScenario(holdersConns, holdersSeconds) }},
	{"soak", func(b *bench) *scenario { return b.soakScenario(b.soakDuration) }},
	{"version2", func(b *bench) *scenario { return b.version2Scenario("version2", workloads["default"]) }},
	{"version2-small", func(b *bench) *scenario { return b.version2Scenario("version2-small", workloads["small"]) }},
	{"tls", func(b *bench) *scenario { return b.tlsScenario("tls", workloads["default"]) }},
	{"safety", func(b *bench) *scenario { return b.safetyScenario("safety", workloads["default"]) }},
	{"traces", func(b *bench) *scenario { return b.tracesScenario("traces", workloads["default"], 1) }},
	{"traces2", func(b *bench) *scenario { return b.tracesScenario("traces2", workloads["default"], 2) }},
	{"defaults", func(b *bench) *scenario { return b.defaultsScenario() }},
	{"full", func(b *bench) *scenario { return b.fullScenario(fullWorkload) }},
	{"repeat", func(b *bench) *scenario { return b.repeatScenario(repeatRuns) }},
}

// scenarioNames returns the names of all scenarios.
func scenarioNames() (names []string) {
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// selectScenarios returns the scenarios with the given comma-separated names, which can
// include "all" or "smoke", for the selected systems.
func (b *bench) selectScenarios(names string) (selected []*scenario, err error) {
	if names == "all" {
		names = strings.Join(scenarioNames(), ",")
	}
	for name := range strings.SplitSeq(names, ",") {
		if name == "smoke" {
			for _, s := range b.smokeScenarios() {
				s.filterSubjects(b.systems)
				selected = append(selected, s)
			}
			continue
		}
		i := slices.Index(scenarioNames(), name)
		if i < 0 {
			return nil, fmt.Errorf("unknown scenario %q, want %s, smoke or all", name, strings.Join(scenarioNames(), ", "))
		}
		s := scenarios[i].build(b)
		s.filterSubjects(b.systems)
		if len(s.subjects) == 0 {
			return nil, fmt.Errorf("%s measures none of %s", name, strings.Join(b.systems, ", "))
		}
		selected = append(selected, s)
	}
	return selected, nil
}

// filterSubjects removes the subjects that need other systems.
func (s *scenario) filterSubjects(systems []string) {
	s.subjects = slices.DeleteFunc(s.subjects, func(sub subject) bool {
		return slices.ContainsFunc(sub.systems, func(needed string) bool { return !slices.Contains(systems, needed) })
	})
}

// requiredSystems returns the systems that scenarios need. It can contain duplicates.
func requiredSystems(scenarios []*scenario) (systems []string) {
	for _, s := range scenarios {
		for _, sub := range s.subjects {
			systems = append(systems, sub.systems...)
		}
	}
	return systems
}
