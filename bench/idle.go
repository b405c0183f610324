package main

import (
	"context"
	"fmt"
	"net"
)

// idleClients is how many connections the idle scenario opens: with as many
// descriptors in this process and in the server, what a limit of 20,000 allows.
const idleClients = 15_000

// idleScenario measures what connections cost that do nothing.
func (b *bench) idleScenario(n int) *scenario {
	s := &scenario{
		name:  "idle",
		title: fmt.Sprintf("%s connections that do nothing: how much the server's resident memory grew", number(float64(n))),
		note: "Plain sockets, each of which was answered once: the hub told its id, nats-server answered `CONNECT` and a `PING`, " +
			"redis-server a `PING`, mosquitto a `CONNECT`. None has a subscription, which at the hub nobody needs, and which would " +
			"come on top for the others.",
		columns: []column{
			{heading: "KiB each", of: func(m *measured) float64 { return m.KiB }},
			{heading: "KiB each, silent since they connected", of: func(m *measured) float64 { return m.KiBSilent }},
		},
		ratios: []ratio{{heading: "its ÷ hub's", base: "hub", of: func(hub, it *measured) float64 { return it.KiB / hub.KiB }}},
	}
	s.charts = []chart{{title: "Resident memory of an idle connection", unit: "KiB", bars: []series{{of: s.columns[0].of}}}}
	for _, system := range []string{"hub", "nats", "redis", "mosquitto"} {
		s.subjects = append(s.subjects, subject{system, []string{system}, func(ctx context.Context) (*measured, error) {
			return b.with(ctx, system, raised, func(s *server) (*measured, error) { return measureIdle(ctx, s, n) })
		}})
	}
	return s
}

// measureIdle opens n connections and reads how much the server's resident memory
// has grown. Those to a hub are silent at first, and that is measured too.
func measureIdle(ctx context.Context, s *server, n int) (*measured, error) {
	before, err := s.memory("VmRSS")
	if err != nil {
		return nil, err
	}
	each := func(mib float64) float64 { return (mib - before) * 1024 / float64(n) }
	greeting := greetings[s.name]
	if s.name == "hub" {
		greeting = nil
	}
	conns, err := connect(ctx, s, n, greeting)
	defer closeAll(conns)
	if err != nil {
		return nil, err
	}
	m := &measured{}
	if s.name == "hub" {
		silent, err := measureSilent(ctx, s, conns)
		if err != nil {
			return nil, err
		}
		m.KiBSilent = each(silent)
	}
	answered, err := s.settled(ctx)
	m.KiB = each(answered)
	return m, err
}

// measureSilent returns what a hub takes whose clients say nothing, in MiB, and
// greets it on all connections then.
func measureSilent(ctx context.Context, s *server, conns []net.Conn) (float64, error) {
	// The last connection's answer says that the hub has taken all of them.
	last := len(conns) - 1
	if err := greetHub(conns[last]); err != nil {
		return 0, err
	}
	silent, err := s.settled(ctx)
	if err != nil {
		return 0, err
	}
	for _, c := range conns[:last] {
		if err := greetHub(c); err != nil {
			return 0, err
		}
	}
	return silent, nil
}

// connect opens n connections to a server, and greets it on each at once unless
// greeting is nil.
func connect(ctx context.Context, s *server, n int, greeting func(net.Conn) error) ([]net.Conn, error) {
	var dialer net.Dialer
	conns := make([]net.Conn, 0, n)
	for range n {
		c, err := dialer.DialContext(ctx, "tcp", s.addr)
		if err != nil {
			return conns, fmt.Errorf("connection %d: %w", len(conns)+1, err)
		}
		conns = append(conns, c)
		if greeting == nil {
			continue
		}
		if err := greeting(c); err != nil {
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
