package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// settings are the options that change scenarios.
type settings struct {
	verify       string // -verify of start_simulation; "" for that of the scenario
	soakDuration time.Duration
	kills        int    // of cluster-kill
	seed         uint64 // of cluster-kill; 0: a random one
}

// scenarios are all scenarios, in the order in which they run.
var scenarios = []struct {
	name  string
	build func(settings) *scenario
}{
	{"default", buildThroughput("default")},
	{"small", buildThroughput("small")},
	{"scattered", buildThroughput("scattered")},
	{"tiny16", buildThroughput("tiny16")},
	{"tiny128", buildThroughput("tiny128")},
	{"heavy", buildThroughput("heavy")},
	{"latency128", func(settings) *scenario { return latencyScenario("latency128", 128, latencyRounds) }},
	{"latency10k", func(settings) *scenario { return latencyScenario("latency10k", 10240, latencyRounds) }},
	{"loaded", func(settings) *scenario { return loadedScenario("loaded", 128, loadedSeconds) }},
	{"loaded10k", func(settings) *scenario { return loadedScenario("loaded10k", 10240, loadedSeconds) }},
	{"idle", func(settings) *scenario { return idleScenario(idleClients) }},
	{"websocket", func(settings) *scenario { return webSocketScenario("websocket", webSocketWorkloads) }},
	{"idle-websocket", func(settings) *scenario { return webIdleScenario(idleClients) }},
	{"websocket-default", func(settings) *scenario {
		return webSocketSystemsScenario("websocket-default", webSocketSystemWorkloads["default"])
	}},
	{"websocket-small", func(settings) *scenario {
		return webSocketSystemsScenario("websocket-small", webSocketSystemWorkloads["small"])
	}},
	{"storm", func(settings) *scenario { return stormScenario(stormClients) }},
	{"growth", func(settings) *scenario { return growthScenario(growthConnected, growthMessages) }},
	{"list", func(settings) *scenario { return listScenario(listClients, listSeconds) }},
	{"flood", func(settings) *scenario { return floodScenario(floodSeconds) }},
	{"hostile", func(settings) *scenario { return hostileScenario(hostileConns, hostileSeconds) }},
	{"holders", func(settings) *scenario { return holdersScenario(holdersConns, holdersSeconds) }},
	{"soak", func(o settings) *scenario { return soakScenario(o.soakDuration) }},
	{clusterKillName, func(o settings) *scenario { return clusterKillScenario(o.kills, o.seed) }},
	{"version2", func(settings) *scenario { return version2Scenario("version2", workloads["default"]) }},
	{"version2-small", func(settings) *scenario { return version2Scenario("version2-small", workloads["small"]) }},
	{"tls", func(settings) *scenario { return tlsScenario("tls", workloads["default"]) }},
	{"safety", func(settings) *scenario { return safetyScenario("safety", workloads["default"]) }},
	{"traces", func(settings) *scenario { return tracesScenario("traces", workloads["default"], 1) }},
	{"traces2", func(settings) *scenario { return tracesScenario("traces2", workloads["default"], 2) }},
	{"defaults", func(settings) *scenario { return defaultsScenario() }},
	{"full", func(o settings) *scenario { return fullScenario(fullWorkload.withVerify(o.verify)) }},
	{"cluster-tiny128", buildCluster("cluster-tiny128")},
	{"cluster-hundred", buildCluster("cluster-hundred")},
	{"cluster-10k", buildCluster("cluster-10k")},
	{"cluster-1m", buildCluster("cluster-1m")},
	{"cluster-latency", func(settings) *scenario { return clusterLatencyScenario(128, latencyRounds) }},
	{"cluster-all", func(settings) *scenario { return clusterCrossingScenario(100, 100, 10_240) }},
	{"cluster-slow", func(settings) *scenario { return clusterSlowScenario(2_000_000, 5) }},
	{"cluster-memory", func(settings) *scenario { return clusterMemoryScenario(knownClients, joiningClients) }},
	{"repeat", func(settings) *scenario { return repeatScenario(repeatRuns) }},
}

// clusterWorkloads are the workloads of the scenarios with two servers.
var clusterWorkloads = map[string]clusterWorkload{
	"cluster-tiny128": {receivers: 1, messages: 2_000_000, size: 128},
	"cluster-hundred": {receivers: 100, messages: 40_000, size: 128},
	"cluster-10k":     {receivers: 1, messages: 60_000, size: 10_240},
	"cluster-1m":      {receivers: 1, messages: 800, size: 1_000_000},
}

// buildCluster returns the function that makes the scenario of one of clusterWorkloads.
func buildCluster(name string) func(settings) *scenario {
	return func(settings) *scenario { return clusterScenario(name, clusterWorkloads[name]) }
}

// buildThroughput returns the function that makes the scenario of one of workloads.
func buildThroughput(name string) func(settings) *scenario {
	return func(o settings) *scenario { return throughputScenario(name, workloads[name].withVerify(o.verify)) }
}

// scenarioNames returns the names of all scenarios.
func scenarioNames() (names []string) {
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// availableScenarios returns the names of the scenarios that can run on this machine.
func availableScenarios() (names []string) {
	for _, name := range scenarioNames() {
		if name == clusterKillName {
			if err := checkNamespaces(context.Background()); err != nil {
				fmt.Printf("without %s: %v\n", name, err)
				continue
			}
		}
		names = append(names, name)
	}
	return names
}

// selectScenarios returns the scenarios with the given comma-separated names, which can
// include "all" or "smoke", with the subjects that need only the given systems.
func selectScenarios(names string, systems []string, o settings) (selected []*scenario, err error) {
	all := names == "all"
	if all {
		names = strings.Join(availableScenarios(), ",")
	}
	for name := range strings.SplitSeq(names, ",") {
		if name == "smoke" {
			for _, s := range smokeScenarios(o.verify) {
				s.filterSubjects(systems)
				selected = append(selected, s)
			}
			continue
		}
		i := slices.Index(scenarioNames(), name)
		if i < 0 {
			return nil, fmt.Errorf("unknown scenario %q, want %s, smoke or all", name, strings.Join(scenarioNames(), ", "))
		}
		s := scenarios[i].build(o)
		s.filterSubjects(systems)
		if len(s.subjects) == 0 && all {
			continue
		}
		if len(s.subjects) == 0 {
			return nil, fmt.Errorf("%s measures none of %s", name, strings.Join(systems, ", "))
		}
		selected = append(selected, s)
	}
	return selected, nil
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
