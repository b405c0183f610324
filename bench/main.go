// Bench measures the hub, other systems and the limits of the machine, alternating in one run,
// and prints tables. On a shared machine absolute times mean little; the ratios between
// systems are comparable.
//
//	go run . [-scenario all] [-systems hub,nats] [-pairs 5] [-json FILE] [-docs FILE]
//	go run . -scenario smoke
//
// Bench builds the programs of this checkout and the other systems that are Go modules. It
// starts each server as a separate process on the loopback interface and on its own port,
// drives it with bench/load or start_simulation, and stops it. A run in which the hub lost a
// message is an error, not a measurement; losses of another system are reported beside its
// figures.
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

// options are the command-line options.
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
	flags.StringVar(&o.scenarios, "scenario", "all", "scenarios to measure, separated by commas: all, smoke, "+strings.Join(scenarioNames(), ", "))
	flags.StringVar(&o.systems, "systems", "", "systems to measure, separated by commas; by default all that are installed")
	flags.IntVar(&o.rounds, "pairs", 5, "number of rounds; each round measures every system once")
	flags.StringVar(&o.verify, "verify", "", "-verify of start_simulation; by default that of the scenario")
	flags.DurationVar(&o.soakDuration, "time", 10*time.Minute, "duration of the soak")
	flags.StringVar(&o.json, "json", "", "JSON file to write all figures to")
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

// measure runs the scenarios one after the other. It writes each result before the next
// scenario begins, because all of them take an hour.
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
