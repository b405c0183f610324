package main

// smokeRounds is the number of rounds. One of them must reach the threshold.
const smokeRounds = 2

// smokeIdleClients is the number of connections of smokeIdle. A v1 connection then takes 4.7
// KiB, instead of 4.5 KiB with 15,000 connections, because the fixed memory of the server
// counts as well. With fewer connections the result would exceed the threshold.
const smokeIdleClients = 5000

// smokeScenarios returns short scenarios that fail when a message is lost or when the hub has
// become slow. They take some seconds. verify is settings.verify.
func smokeScenarios(verify string) []*scenario {
	return []*scenario{
		// Promised: at most 1.05 times the limit's time.
		smokeWorkload(verify, "default", 20, threshold{heading: rateHeading, row: "limit", minValue: 1 / 2.1}, "limit"),
		// Promised: 8 times the rate of nats-server.
		smokeWorkload(verify, "small", 200, threshold{heading: rateHeading, row: "nats", minValue: 4}, "nats"),
		// Promised: 3 times.
		smokeWorkload(verify, "scattered", 1000, threshold{heading: rateHeading, row: "nats", minValue: 1.5}, "nats"),
		// Promised: 2 times.
		smokeWorkload(verify, "tiny128", 1_000_000, threshold{heading: rateHeading, row: "nats", minValue: 1}, "nats"),
		smokeLatency(),
		smokeIdle(),
	}
}

// smokeWorkload returns a workload scenario with fewer messages, for the hub and one other
// system.
func smokeWorkload(verify, name string, messages int, th threshold, other string) *scenario {
	wl := workloads[name].withVerify(verify)
	wl.messages, wl.systems = messages, []string{"hub", other}
	s := throughputScenario("smoke-"+name, wl)
	s.rounds, s.thresholds = smokeRounds, []threshold{th}
	return s
}

// smokeLatency compares the latency of the hub with that of the bare forwarder. Promised: at
// most 1.15 times its median.
func smokeLatency() *scenario {
	s := latencyScenario("smoke-latency", 128, 5000)
	s.filterSubjects([]string{"hub", "forward"})
	for i := range s.subjects {
		s.subjects[i].measure = onOneProcessor(s.subjects[i].measure)
	}
	s.rounds, s.thresholds = smokeRounds, []threshold{{heading: rawHeading, row: "forward", maxValue: 2.3}}
	return s
}

// smokeIdle measures idle connections of a hub.
func smokeIdle() *scenario {
	s := idleScenario(smokeIdleClients)
	s.name = "smoke-idle"
	s.filterSubjects([]string{"hub"})
	s.rounds = 1
	for _, th := range []threshold{
		{heading: idleHeading, maxValue: maxIdleKiB},
		{heading: idleSilentHeading, maxValue: maxIdleKiB},
		{heading: idleVersion2Heading, maxValue: maxIdleKiBVersion2},
		{heading: idleInUseHeading, maxValue: maxIdleInUseKiB},
		{heading: idleInUse2Heading, maxValue: maxIdleInUseKiB},
	} {
		th.row = "hub"
		th.maxValue *= 1.1
		s.thresholds = append(s.thresholds, th)
	}
	return s
}
