package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
)

// limitMode is how the limits of a server are configured.
type limitMode int

const (
	// limitsRaised is for measuring: the server drops nothing that it could hold.
	limitsRaised limitMode = iota

	// limitsDefault keeps the default limits of the server.
	limitsDefault
)

// system is a server under measurement.
type system struct {
	name string

	// start starts a server on the loopback interface.
	start func(context.Context, *programs, limitMode) (*server, error)

	// program is the program that must be installed; "" if bench builds it.
	program string
}

// systems are all systems with a server, in the order of the tables. The limit is not among
// them because it has no server (see limit.go).
var systems = []system{
	{name: "hub", start: startHub},
	{name: "forward", start: startForward},
	{name: "nats", start: startNATS},
	{name: "redis", start: startRedis, program: "redis-server"},
	{name: "mosquitto", start: startMosquitto, program: "mosquitto"},
}

// findSystem returns the system with the given name, which must exist.
func findSystem(name string) system {
	i := slices.IndexFunc(systems, func(s system) bool { return s.name == name })
	return systems[i]
}

// selectSystems returns the names of the systems to measure: the comma-separated names in
// requested, or all installed systems if requested is "". A requested system that is not
// installed is an error.
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
			return nil, fmt.Errorf("unknown system %q, want one of %s", name, strings.Join(known, ", "))
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

// checkInstalled returns an error if the system cannot be started on this machine.
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
