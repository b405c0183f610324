package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// bench is what all scenarios share.
type bench struct {
	programs *programs
	systems  []string // to measure
	soak     time.Duration
	verify   string // how the simulation verifies; "" is as the scenario says
}

// scenario is a question, and how to answer it.
type scenario struct {
	name  string
	title string // what is done
	note  string // what has to be known to read the table; Markdown

	// rounds is how many there are; 0 is as many as the user says.
	rounds int

	subjects []subject
	columns  []column
	ratios   []ratio
	charts   []chart

	// bars are what the result must reach, if there is such a thing.
	bars []bar
}

// subject is what is measured in turn: mostly a system, of which it has the name.
type subject struct {
	name    string
	systems []string // that it needs
	measure func(context.Context) (*measured, error)
}

// column is a figure in the table.
type column struct {
	heading string
	of      func(*measured) float64
	zero    bool // 0 is a figure; otherwise it says that there is none
}

// ratio is a figure that relates two runs of the same round.
type ratio struct {
	heading string
	base    string   // the subject that is divided
	rows    []string // by which others; nil is by all
	of      func(base, other *measured) float64
}

// applies says whether a subject has that ratio.
func (r *ratio) applies(subject string) bool {
	return subject != r.base && (r.rows == nil || slices.Contains(r.rows, subject))
}

// scenarios are all that there are, in the order in which they are run. Each makes
// its scenario for the systems of a bench.
var scenarios = []struct {
	name  string
	build func(*bench) *scenario
}{
	{"default", func(b *bench) *scenario { return b.patternScenario("default") }},
	{"small", func(b *bench) *scenario { return b.patternScenario("small") }},
	{"scattered", func(b *bench) *scenario { return b.patternScenario("scattered") }},
	{"tiny16", func(b *bench) *scenario { return b.patternScenario("tiny16") }},
	{"tiny128", func(b *bench) *scenario { return b.patternScenario("tiny128") }},
	{"heavy", func(b *bench) *scenario { return b.patternScenario("heavy") }},
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
	{"soak", func(b *bench) *scenario { return b.soakScenario(b.soak) }},
	{"version2", func(b *bench) *scenario { return b.version2Scenario("version2", patterns["default"]) }},
	{"version2-small", func(b *bench) *scenario { return b.version2Scenario("version2-small", patterns["small"]) }},
	{"tls", func(b *bench) *scenario { return b.tlsScenario("tls", patterns["default"]) }},
	{"safety", func(b *bench) *scenario { return b.safetyScenario("safety", patterns["default"]) }},
	{"traces", func(b *bench) *scenario { return b.tracesScenario("traces", patterns["default"], 1) }},
	{"traces2", func(b *bench) *scenario { return b.tracesScenario("traces2", patterns["default"], 2) }},
	{"defaults", func(b *bench) *scenario { return b.defaultsScenario() }},
	{"full", func(b *bench) *scenario { return b.fullScenario(heavyInFull) }},
	{"repeat", func(b *bench) *scenario { return b.repeatScenario(repeatRuns) }},
}

// scenarioNames returns the names of all scenarios.
func scenarioNames() (names []string) {
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// chooseScenarios returns those with the given names, which may be "all" or
// "smoke", for the systems that are measured.
func (b *bench) chooseScenarios(names string) (chosen []*scenario, err error) {
	if names == "all" {
		names = strings.Join(scenarioNames(), ",")
	}
	for name := range strings.SplitSeq(names, ",") {
		if name == "smoke" {
			for _, s := range b.smokeScenarios() {
				s.keep(b.systems)
				chosen = append(chosen, s)
			}
			continue
		}
		i := slices.Index(scenarioNames(), name)
		if i < 0 {
			return nil, fmt.Errorf("no such scenario: %q; there are %s, smoke, and all", name, strings.Join(scenarioNames(), ", "))
		}
		s := scenarios[i].build(b)
		s.keep(b.systems)
		if len(s.subjects) == 0 {
			return nil, fmt.Errorf("%s measures none of %s", name, strings.Join(b.systems, ", "))
		}
		chosen = append(chosen, s)
	}
	return chosen, nil
}

// keep leaves out the subjects that need other systems.
func (s *scenario) keep(systems []string) {
	s.subjects = slices.DeleteFunc(s.subjects, func(one subject) bool {
		return slices.ContainsFunc(one.systems, func(needed string) bool { return !slices.Contains(systems, needed) })
	})
}

// systemsOf returns the systems that scenarios need.
func systemsOf(scenarios []*scenario) (systems []string) {
	for _, s := range scenarios {
		for _, one := range s.subjects {
			systems = append(systems, one.systems...)
		}
	}
	return systems
}
