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
		smokeWebSocket(),
		smokeWebIdle(),
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

// smokeWebSocket compares the processor time of deliveries over WebSocket with that over TCP. It
// permits twice the promised ratio: a short round takes a quarter of a second of processor time.
func smokeWebSocket() *scenario {
	s := webSocketScenario("smoke-websocket", smokeWebSocketWorkloads)
	s.rounds = smokeRounds
	for _, wl := range smokeWebSocketWorkloads {
		for _, v := range wl.variants()[1:] {
			s.thresholds = append(s.thresholds, threshold{heading: webSocketHeading, row: wl.subject(v), maxValue: 2 * wl.maxRatio})
		}
	}
	return s
}

var smokeWebSocketWorkloads = []webSocketWorkload{
	{receivers: 10, size: 128, messages: 750_000, maxRatio: 1.35},
	{receivers: 10, size: 10_240, messages: 10_000, maxRatio: 1.35},
	{receivers: 10, size: 1_024_000, messages: 100, maxRatio: 1.2},
}

// smokeWebIdle measures idle WebSockets of a hub.
func smokeWebIdle() *scenario {
	s := webIdleScenario(smokeIdleClients)
	s.name = "smoke-idle-websocket"
	s.filterSubjects([]string{"hub"})
	s.rounds = smokeRounds
	s.thresholds = []threshold{{heading: webIdleMoreHeading, row: webIdleHub, maxValue: 1.1 * maxWebIdleMoreKiB}}
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
