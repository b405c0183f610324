// Bench measures the hub beside other systems and beside what the machine can,
// alternating in one run, and prints tables: on a shared machine an absolute time
// says little, a ratio does.
//
//	go run . [-scenario all] [-systems hub,nats] [-pairs 5] [-json FILE] [-docs FILE]
//	go run . -scenario smoke
//
// It builds the programs of this checkout and the peers that are Go modules, starts
// each server as a process of its own on the loopback interface and on a port of
// its own, drives it with bench/load or start_simulation, and ends everything. A
// run in which the hub lost a message is an error, not a measurement; what another
// system loses is told beside its figures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the user says.
type options struct {
	scenarios    string
	systems      string
	rounds       int
	verify       string
	soakDuration time.Duration
	json         string
	docs         string
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.scenarios, "scenario", "all", "what to measure, separated by commas: all, smoke, "+strings.Join(scenarioNames(), ", "))
	flags.StringVar(&o.systems, "systems", "", "what to measure it on, separated by commas; by default, all that are installed")
	flags.IntVar(&o.rounds, "pairs", 5, "rounds, in each of which every system has its turn")
	flags.StringVar(&o.verify, "verify", "", "how start_simulation verifies; by default as the scenario says")
	flags.DurationVar(&o.soakDuration, "time", 10*time.Minute, "how long the soak goes on")
	flags.StringVar(&o.json, "json", "", "file for all figures")
	flags.StringVar(&o.docs, "docs", "", "Markdown page for tables and charts, between its <!-- bench:NAME --> markers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	systems, err := selectSystems(o.systems)
	if err != nil {
		return err
	}
	b := &bench{systems: systems, verify: o.verify, soakDuration: o.soakDuration}
	scenarios, err := b.selectScenarios(o.scenarios)
	if err != nil {
		return err
	}
	out, err := newOutput(o, scenarios)
	if err != nil {
		return err
	}
	if b.programs, err = build(ctx, requiredSystems(scenarios)); err != nil {
		return err
	}
	defer b.programs.remove()
	return b.measure(ctx, scenarios, o.rounds, out)
}

// measure runs the scenarios one after the other. What one has found is written
// before the next begins: all of them take an hour.
func (b *bench) measure(ctx context.Context, scenarios []*scenario, rounds int, out *output) error {
	machine, err := b.describeMachine(ctx)
	if err != nil {
		return err
	}
	provenance, err := b.provenance(time.Now())
	if err != nil {
		return err
	}
	fmt.Print(machine, provenance, "\n")
	if err := out.begin(machine, provenance); err != nil {
		return err
	}
	for _, s := range scenarios {
		r, err := s.measure(ctx, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := out.add(r); err != nil {
			return err
		}
		for _, th := range s.thresholds {
			if err := th.check(r); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}
