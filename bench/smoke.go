package main

import "fmt"

// smokeRounds is the number of rounds. One of them must reach the threshold.
const smokeRounds = 2

// smokeIdleClients is the number of connections of smokeIdle. A v1 connection then takes 4.7
// KiB, instead of 4.5 KiB with 15,000 connections, because the fixed memory of the server
// counts as well. With fewer connections the result would exceed the threshold.
const smokeIdleClients = 5000

// threshold is a limit that the best round of a scenario must reach. The threshold of a speed
// is half of what is promised and only the best round counts: other load on the machine must
// not fail it, and an error that halves the speed must. Memory does not depend on other load,
// therefore its threshold is 1.1 times what is promised.
type threshold struct {
	heading  string // of a ratio or a column
	row      string
	minValue float64 // 0: no minimum
	maxValue float64
}

// check returns an error if the best round of a result misses the threshold.
func (th *threshold) check(r *result) error {
	s, ok := r.Ratios[th.heading][th.row]
	if !ok {
		s, ok = r.Figures[th.heading][th.row]
	}
	switch {
	case !ok:
		return fmt.Errorf("no figure %q of %q", th.heading, th.row)
	case th.minValue > 0 && s.Max < th.minValue:
		return fmt.Errorf("%s %s is %.2f in the best of %d rounds, want at least %.2f", th.heading, th.row, s.Max, len(r.Rounds), th.minValue)
	case th.maxValue > 0 && s.Min > th.maxValue:
		return fmt.Errorf("%s %s is %.2f in the best of %d rounds, want at most %.2f", th.heading, th.row, s.Min, len(r.Rounds), th.maxValue)
	}
	return nil
}

// smokeScenarios returns short scenarios that fail when a message is lost or when the hub has
// become slow. They take some seconds.
func (b *bench) smokeScenarios() []*scenario {
	return []*scenario{
		// Promised: at most 1.05 times the limit's time.
		b.smokeWorkload("default", 20, threshold{heading: rateHeading, row: "limit", minValue: 1 / 2.1}, "limit"),
		// Promised: 8 times the rate of nats-server.
		b.smokeWorkload("small", 200, threshold{heading: rateHeading, row: "nats", minValue: 4}, "nats"),
		// Promised: 3 times.
		b.smokeWorkload("scattered", 1000, threshold{heading: rateHeading, row: "nats", minValue: 1.5}, "nats"),
		// Promised: 2 times.
		b.smokeWorkload("tiny128", 1_000_000, threshold{heading: rateHeading, row: "nats", minValue: 1}, "nats"),
		b.smokeLatency(),
		b.smokeIdle(),
	}
}

// smokeWorkload returns a workload scenario with fewer messages, for the hub and one other
// system.
func (b *bench) smokeWorkload(name string, messages int, th threshold, other string) *scenario {
	wl := workloads[name]
	wl.messages, wl.systems = messages, []string{"hub", other}
	s := b.newWorkloadScenario("smoke-"+name, wl)
	s.rounds, s.thresholds = smokeRounds, []threshold{th}
	return s
}

// smokeLatency compares the latency of the hub with that of the bare forwarder. Promised: at
// most 1.15 times its median.
func (b *bench) smokeLatency() *scenario {
	s := b.latencyScenario("smoke-latency", 128, 5000)
	s.filterSubjects([]string{"hub", "forward"})
	s.rounds, s.thresholds = smokeRounds, []threshold{{heading: rawHeading, row: "forward", maxValue: 2.3}}
	return s
}

// smokeIdle measures idle connections of a hub.
func (b *bench) smokeIdle() *scenario {
	s := b.idleScenario(smokeIdleClients)
	s.name = "smoke-idle"
	s.filterSubjects([]string{"hub"})
	s.rounds = 1
	for _, th := range []threshold{
		{heading: idleHeading, maxValue: maxIdleKiB},
		{heading: idleSilentHeading, maxValue: maxIdleKiB},
		{heading: idleVersion2Heading, maxValue: maxIdleKiBVersion2},
	} {
		th.row = "hub"
		th.maxValue *= 1.1
		s.thresholds = append(s.thresholds, th)
	}
	return s
}
