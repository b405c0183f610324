package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
)

// limitMode says how a server is set up.
type limitMode int

const (
	// limitsRaised is for measuring: nothing is thrown away that the server could hold.
	limitsRaised limitMode = iota

	// limitsDefault is the server with no limit changed.
	limitsDefault
)

// system is something that moves messages between processes.
type system struct {
	name string

	// start starts a server on the loopback interface.
	start func(context.Context, *programs, limitMode) (*server, error)

	// program is what has to be installed; "" when it is built here.
	program string
}

// systems are all that can be measured, in the order of the tables. The limit is
// not one of them: it has no server (see limit.go).
var systems = []system{
	{name: "hub", start: startHub},
	{name: "forward", start: startForward},
	{name: "nats", start: startNATS},
	{name: "redis", start: startRedis, program: "redis-server"},
	{name: "mosquitto", start: startMosquitto, program: "mosquitto"},
}

// findSystem returns a system that is known to exist.
func findSystem(name string) system {
	i := slices.IndexFunc(systems, func(s system) bool { return s.name == name })
	return systems[i]
}

// selectSystems returns the names of the systems to measure: those that are asked for, or
// all that there are on this machine. One that was asked for must be there.
func selectSystems(requested string) (names []string, err error) {
	known := []string{"limit"}
	for _, s := range systems {
		known = append(known, s.name)
	}
	explicit := requested != ""
	selected := known
	if explicit {
		selected = strings.Split(requested, ",")
	}
	for _, name := range selected {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no such system: %q; there are %s", name, strings.Join(known, ", "))
		}
		if name != "limit" {
			if err := findSystem(name).checkInstalled(); err != nil && explicit {
				return nil, err
			} else if err != nil {
				fmt.Printf("without %s: %v\n", name, err)
				continue
			}
		}
		names = append(names, name)
	}
	return names, nil
}

// checkInstalled returns why a system cannot be started here, if so.
func (s system) checkInstalled() error {
	if s.program == "" {
		return nil
	}
	_, err := findProgram(s.program)
	return err
}

// portOf returns the port of an address that freeAddr returned.
func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}
