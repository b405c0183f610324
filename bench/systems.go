package main

import (
	"fmt"
	"slices"
	"strings"
)

// systems are all systems with a server, in the order of the tables. The limit is not among
// them because it has no server (see limit.go).
var systems = []system{
	{name: "hub", start: startHub},
	{name: "forward", start: startForward},
	{name: "nats", start: startNATS},
	{name: "chat", start: startChat},
	{name: "redis", start: startRedis, program: "redis-server"},
	{name: "mosquitto", start: startMosquitto, program: "mosquitto"},
}

// librarySystems are the systems that users drive through a client library.
var librarySystems = []string{"hub", "nats", "redis", "mosquitto"}

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
