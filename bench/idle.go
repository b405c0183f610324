package main

import (
	"context"
	"fmt"
	"net"
)

// idleClients is the number of connections of the idle scenario. This process and the server
// each need as many descriptors, which a limit of 20,000 allows.
const idleClients = 15_000

// The headings of the idle scenario's columns.
const (
	idleHeading         = "KiB per connection"
	idleSilentHeading   = "KiB per connection, nothing sent"
	idleVersion2Heading = "KiB per connection, version 2"
)

// The promised maximum memory of an idle connection, in KiB.
const (
	maxIdleKiB         = 4.5
	maxIdleKiBVersion2 = 6.0
)

// idleScenario measures the memory of idle connections.
func (b *bench) idleScenario(n int) *scenario {
	s := &scenario{
		name:  "idle",
		title: fmt.Sprintf("%s idle connections: growth of the server's resident memory", formatNumber(float64(n))),
		note: "The connections are plain sockets that got one reply each: from the hub their id, from nats-server the reply to `CONNECT` and `PING`, " +
			"from redis-server to `PING`, from mosquitto to `CONNECT`. No connection has a subscription. The hub needs none; " +
			"in the other systems a subscription takes additional memory. Clients of version 2 connect to a second hub. Each sends `HELLO`, " +
			"`ACK` after its `WELCOME`, and `PING` when all are connected.",
		columns: []column{
			{heading: idleHeading, value: func(m *measurement) float64 { return m.KiBPerConn }},
			{heading: idleSilentHeading, value: func(m *measurement) float64 { return m.KiBPerSilentConn }},
			{heading: idleVersion2Heading, value: func(m *measurement) float64 { return m.KiBPerConnVersion2 }},
		},
		ratios: []ratio{{heading: "this system's KiB ÷ hub's KiB", base: "hub", value: func(hub, other *measurement) float64 { return other.KiBPerConn / hub.KiBPerConn }}},
	}
	s.charts = []chart{{title: "Resident memory of an idle connection", unit: "KiB", bars: []series{{value: s.columns[0].value}}}}
	for _, system := range []string{"hub", "nats", "redis", "mosquitto"} {
		s.subjects = append(s.subjects, subject{system, []string{system}, func(ctx context.Context) (*measurement, error) {
			return b.measureIdle(ctx, system, n)
		}})
	}
	return s
}

// measureIdle opens n connections to a system and measures the growth of the server's resident
// memory.
func (b *bench) measureIdle(ctx context.Context, system string, n int) (*measurement, error) {
	m, err := b.withServer(ctx, system, limitsRaised, func(s *server) (*measurement, error) {
		if system == "hub" {
			return measureVersion1(ctx, s, n)
		}
		kib, err := memoryPerConn(ctx, s, n, greetFuncs[system])
		return &measurement{KiBPerConn: kib[0]}, err
	})
	if err != nil || system != "hub" {
		return m, err
	}
	_, err = b.withServer(ctx, system, limitsRaised, func(s *server) (*measurement, error) {
		kib, err := memoryPerConn(ctx, s, n, greetVersion2, pingVersion2)
		m.KiBPerConnVersion2 = kib[1]
		return new(measurement), err
	})
	return m, err
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

// forEachConn calls do for each connection and returns the first error.
func forEachConn(conns []net.Conn, do func(net.Conn) error) error {
	for _, c := range conns {
		if err := do(c); err != nil {
			return err
		}
	}
	return nil
}

// openConns opens n connections to a server and calls greet on each of them, unless greet is
// nil.
func openConns(ctx context.Context, s *server, n int, greet func(net.Conn) error) ([]net.Conn, error) {
	var dialer net.Dialer
	conns := make([]net.Conn, 0, n)
	for range n {
		c, err := dialer.DialContext(ctx, "tcp", s.addr)
		if err != nil {
			return conns, fmt.Errorf("connection %d: %w", len(conns)+1, err)
		}
		conns = append(conns, c)
		if greet == nil {
			continue
		}
		if err := greet(c); err != nil {
			return conns, fmt.Errorf("greet %s on connection %d: %w", s.name, len(conns), err)
		}
	}
	return conns, nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}
