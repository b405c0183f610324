package main

import (
	"context"
	"fmt"
	"net"
	"time"
)

// idleClients is the number of connections of the idle scenario. This process and the server
// each need as many descriptors, which a limit of 20,000 allows.
const idleClients = 15_000

// The headings of the idle scenario's columns.
const (
	idleHeading         = "KiB per connection"
	idleSilentHeading   = "KiB per connection, nothing sent"
	idleVersion2Heading = "KiB per connection, version 2"
	idleInUseHeading    = "KiB in use per connection, version 2"
	idleInUse2Heading   = "KiB in use per connection, version 2, after messages"
	idleMessagesHeading = "KiB per connection, version 2, after messages"
)

// The promised maximum memory of an idle connection, in KiB.
const (
	maxIdleKiB         = 4.5
	maxIdleKiBVersion2 = 6.0

	// maxIdleInUseKiB is for version 2, also after messages. A goroutine with a stack of 4 KiB
	// exceeds it.
	maxIdleInUseKiB = 5.0
)

// idleDelay is the time after which the hub certainly treats a client as idle. The hub takes two
// seconds at most.
const idleDelay = 3 * time.Second

// idleScenario measures the memory of idle connections.
func idleScenario(n int) *scenario {
	s := &scenario{
		name:  "idle",
		title: fmt.Sprintf("%s idle connections: growth of the server's resident memory", formatNumber(float64(n))),
		note: "The connections are plain sockets that got one reply each: from the hub their id, from nats-server the reply to `CONNECT` and `PING`, " +
			"from redis-server to `PING`, from mosquitto to `CONNECT`. No connection has a subscription. The hub needs none; " +
			"in the other systems a subscription takes additional memory. Clients of version 2 connect to a second hub. Each sends `HELLO`, " +
			"`ACK` after its `WELCOME`, and `PING` when all are connected. In use are the heap and the stacks after two garbage collections. " +
			"Each of these clients then sends 5 messages of 100 bytes to itself, all of them within a few seconds, and is idle again. " +
			"The resident memory after that includes the stacks of that time, which the Go runtime keeps for the next garbage.",
		columns: []column{
			{heading: idleHeading, value: func(m *measurement) float64 { return m.KiBPerConn }},
			{heading: idleSilentHeading, value: func(m *measurement) float64 { return m.KiBPerSilentConn }},
			{heading: idleVersion2Heading, value: func(m *measurement) float64 { return m.KiBPerConnVersion2 }},
			{heading: idleInUseHeading, value: func(m *measurement) float64 { return m.KiBInUse }},
			{heading: idleInUse2Heading, value: func(m *measurement) float64 { return m.KiBInUseAfterMessages }},
			{heading: idleMessagesHeading, value: func(m *measurement) float64 { return m.KiBAfterMessages }},
		},
		ratios: []ratio{{heading: "this system's KiB ÷ hub's KiB", base: "hub", value: func(hub, other *measurement) float64 { return other.KiBPerConn / hub.KiBPerConn }}},
	}
	s.charts = []chart{{title: "Resident memory of an idle connection", unit: "KiB", bars: []series{{value: s.columns[0].value}}}}
	s.subjects = systemSubjects(librarySystems, func(ctx context.Context, p *programs, system string) (*measurement, error) {
		return measureIdle(ctx, p, system, n)
	})
	return s
}

// measureIdle opens n connections to a system and measures the growth of the server's resident
// memory.
func measureIdle(ctx context.Context, p *programs, system string, n int) (*measurement, error) {
	m, err := withServer(ctx, p, system, limitsRaised, func(s *server) (*measurement, error) {
		if system == "hub" {
			return measureVersion1(ctx, s, n)
		}
		kib, err := memoryPerConn(ctx, s, n, greetFuncs[system])
		return &measurement{KiBPerConn: kib[0]}, err
	})
	if err != nil || system != "hub" {
		return m, err
	}
	_, err = withServer(ctx, p, system, limitsRaised, func(s *server) (*measurement, error) {
		kib, err := memoryPerConn(ctx, s, n, greetVersion2, pingVersion2)
		m.KiBPerConnVersion2 = kib[1]
		return new(measurement), err
	})
	if err != nil {
		return m, err
	}
	return m, measureInUse(ctx, p, n, m)
}

// measureInUse stores in m the memory of v2 clients of a hub with an admin address, before and
// after messages. The hub sends no PING meanwhile.
func measureInUse(ctx context.Context, p *programs, n int, m *measurement) error {
	admin, err := freeAddr()
	if err != nil {
		return err
	}
	_, err = withHub(ctx, p, []string{"-admin=" + admin, "-keepalive=1h"}, func(s *server) (*measurement, error) {
		return new(measurement), inUsePerConn(ctx, s, admin, n, m)
	})
	return err
}

// inUsePerConn is measureInUse for a hub that runs.
func inUsePerConn(ctx context.Context, s *server, admin string, n int, m *measurement) error {
	before, err := readIdleMemory(ctx, s, admin)
	if err != nil {
		return err
	}
	conns, err := openConns(ctx, s, n, greetVersion2)
	defer closeAll(conns)
	if err != nil {
		return err
	}
	var after [2]idleMemory
	for i, exchange := range []func(net.Conn) error{pingVersion2, messagesVersion2} {
		if err := forEachConn(conns, exchange); err != nil {
			return err
		}
		if after[i], err = readIdleMemory(ctx, s, admin); err != nil {
			return err
		}
	}
	m.KiBInUse = (after[0].inUse - before.inUse) / float64(n)
	m.KiBInUseAfterMessages = (after[1].inUse - before.inUse) / float64(n)
	m.KiBAfterMessages = (after[1].resident - before.resident) / float64(n)
	return nil
}

// idleMemory is the memory of a hub whose clients are idle, in KiB.
type idleMemory struct{ resident, inUse float64 }

// readIdleMemory reads the memory of a hub when it certainly treats all its clients as idle.
func readIdleMemory(ctx context.Context, s *server, admin string) (memory idleMemory, err error) {
	time.Sleep(idleDelay)
	mib, err := s.memoryMiB("VmRSS") // before the garbage collections of memoryInUse
	if err != nil {
		return memory, err
	}
	memory.resident = mib * 1024
	memory.inUse, err = memoryInUse(ctx, admin)
	return memory, err
}

// measureVersion1 measures v1 clients that have sent nothing, and then the same clients after
// an id request.
func measureVersion1(ctx context.Context, s *server, n int) (*measurement, error) {
	kib, err := memoryPerConn(ctx, s, n, nil, greetHub)
	return &measurement{KiBPerSilentConn: kib[0], KiBPerConn: kib[1]}, err
}

// memoryPerConn opens n connections to a server and runs each step on all of them, one step
// after the other; the first step can be nil. After each step it reads the server's resident
// memory. It returns the growth since the beginning for each connection, in KiB.
func memoryPerConn(ctx context.Context, s *server, n int, steps ...func(net.Conn) error) (kib [2]float64, err error) {
	before, err := s.memoryMiB("VmRSS")
	if err != nil {
		return kib, err
	}
	conns, err := openConns(ctx, s, n, steps[0])
	defer closeAll(conns)
	if err != nil {
		return kib, err
	}
	if steps[0] == nil {
		// The reply on the last connection shows that the hub has accepted all of them.
		if err := greetHub(conns[n-1]); err != nil {
			return kib, err
		}
	}
	for i := range steps {
		if i > 0 {
			if err := forEachConn(conns, steps[i]); err != nil {
				return kib, err
			}
		}
		mib, err := s.stableMemoryMiB(ctx)
		if err != nil {
			return kib, err
		}
		kib[i] = (mib - before) * 1024 / float64(n)
	}
	return kib, nil
}
