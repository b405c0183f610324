package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"time"
)

// options are the command-line options.
type options struct {
	scenarios string
	systems   string
	rounds    int
	settings  settings
	json      string
	docs      string
}

// run runs the command line args.
func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.scenarios, "scenario", "all", "scenarios to measure, separated by commas: all, smoke, "+strings.Join(scenarioNames(), ", "))
	flags.StringVar(&o.systems, "systems", "", "systems to measure, separated by commas; by default all that are installed")
	flags.IntVar(&o.rounds, "pairs", 5, "number of rounds; each round measures every system once")
	flags.StringVar(&o.settings.verify, "verify", "", "-verify of start_simulation; by default that of the scenario")
	flags.DurationVar(&o.settings.soakDuration, "time", 10*time.Minute, "duration of the soak")
	flags.IntVar(&o.settings.kills, "kills", 100, "number of faults of cluster-kill")
	flags.Uint64Var(&o.settings.seed, "seed", 0, "seed of cluster-kill; 0: a random one, which it prints")
	flags.StringVar(&o.json, "json", "", "JSON file to write all figures to")
	flags.StringVar(&o.docs, "docs", "", "Markdown page for tables and charts, between its <!-- bench:NAME --> markers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	systems, err := selectSystems(o.systems)
	if err != nil {
		return err
	}
	scenarios, err := selectScenarios(o.scenarios, systems, o.settings)
	if err != nil {
		return err
	}
	out, err := newOutput(o.json, o.docs, scenarios)
	if err != nil {
		return err
	}
	p, err := build(ctx, requiredSystems(scenarios))
	if err != nil {
		return err
	}
	defer p.remove()
	return runScenarios(ctx, p, systems, scenarios, o.rounds, out)
}

// runScenarios runs the scenarios one after the other. It writes each result before the next
// scenario begins, because all of them take an hour.
func runScenarios(ctx context.Context, p *programs, systems []string, scenarios []*scenario, rounds int, out *output) error {
	machine, err := describeMachine(ctx, p, systems)
	if err != nil {
		return err
	}
	provenance, err := describeProvenance(p.commit, time.Now())
	if err != nil {
		return err
	}
	fmt.Print(machine, provenance, "\n")
	if err := out.begin(machine, provenance); err != nil {
		return err
	}
	for _, s := range scenarios {
		r, err := measureRounds(ctx, p, s, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := out.add(r); err != nil {
			return err
		}
		for _, th := range s.thresholds {
			if err := r.check(th); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}
