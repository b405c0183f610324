// Bench measures the hub beside the bare socket limit, alternating in one run,
// and prints ratios: on a shared machine an absolute time says little.
//
//	go run . [-scenario default,small,heavy,idle,repeat] [-pairs 5] [-json FILE]
//
// It builds the programs of this checkout, starts each as a process of its own on
// the loopback interface, and ends them all. A run in which a message was lost is
// an error, not a measurement.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	names := flags.String("scenario", "default,small,heavy,idle,repeat", "what to measure, separated by commas")
	pairs := flags.Int("pairs", 5, "pairs of hub and limit for each scenario")
	verify := flags.String("verify", "", "how the simulation verifies; by default as the scenario says")
	file := flags.String("json", "", "file for all figures")
	if err := flags.Parse(args); err != nil {
		return err
	}
	programs, err := build(ctx)
	if err != nil {
		return err
	}
	defer programs.remove()
	results := map[string]any{}
	for name := range strings.SplitSeq(*names, ",") {
		result, err := measure(ctx, programs, name, *pairs, *verify)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		results[name] = result
	}
	if *file == "" {
		return nil
	}
	b, err := json.MarshalIndent(results, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(*file, append(b, '\n'), 0o644)
}

// measure runs one scenario.
func measure(ctx context.Context, p *programs, name string, pairs int, verify string) (any, error) {
	switch name {
	case "idle":
		return measureIdle(ctx, p, idleClients)
	case "repeat":
		return measureRepeat(ctx, p, repeatRuns)
	}
	s, ok := patterns[name]
	if !ok {
		return nil, fmt.Errorf("no such scenario; there are default, small, heavy, idle and repeat")
	}
	if verify != "" {
		s.verify = verify
	}
	return measurePairs(ctx, p, name, s, pairs)
}
