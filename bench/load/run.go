package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

// run runs the command line args.
func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: load move|latency|storm|flood|hostile [flags]")
	}
	flags := flag.NewFlagSet("load "+args[0], flag.ContinueOnError)
	system := flags.String("system", "hub", "system to drive: "+strings.Join(systemNames(), ", "))
	addr := flags.String("addr", "", "address of the server, host:port")
	otherAddr := flags.String("other", "", "address of another server of the cluster, which serves all but the first clients")
	first := flags.Int("first", 1, "clients at -addr, with -other")
	webAddr := flags.String("web", "", "address of the server for WebSockets, host:port")
	token := flags.String("token", "", "token of the clients of a hub")
	defaults := flags.Bool("defaults", false, "keep the default options of the client library, even if that loses messages")
	mode, err := newMode(args[0], flags)
	if err != nil {
		return err
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	result, err := mode(ctx, target{
		system: *system, addr: *addr, otherAddr: *otherAddr, first: *first, webAddr: *webAddr, token: *token,
		namePrefix: args[0], libraryDefaults: *defaults,
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// newMode registers the flags of a mode and returns the function that runs it with the parsed
// flags.
func newMode(name string, flags *flag.FlagSet) (func(context.Context, target) (any, error), error) {
	switch name {
	case "move":
		var c moveConfig
		c.addFlags(flags)
		return func(ctx context.Context, t target) (any, error) { return runMove(ctx, t, c) }, nil
	case "latency":
		var c latencyConfig
		c.addFlags(flags)
		return func(ctx context.Context, t target) (any, error) { return runLatency(ctx, t, c) }, nil
	case "storm":
		var c stormConfig
		c.addFlags(flags)
		return func(ctx context.Context, t target) (any, error) { return runStorm(ctx, t, c) }, nil
	case "flood":
		var c floodConfig
		c.addFlags(flags)
		return func(ctx context.Context, t target) (any, error) { return runFlood(ctx, t, c) }, nil
	case "hostile":
		var c hostileConfig
		c.addFlags(flags)
		return func(ctx context.Context, t target) (any, error) { return runHostile(ctx, t, c) }, nil
	}
	return nil, fmt.Errorf("unknown mode %q, want move, latency, storm, flood or hostile", name)
}
