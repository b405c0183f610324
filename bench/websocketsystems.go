package main

import (
	"context"
	"strings"
)

// webSocketLoads are, by system, the systems of the load program whose clients all connect by
// WebSocket.
var webSocketLoads = map[string]string{"hub": "hub-frames-ws", "nats": "nats-ws", "chat": "chat"}

// webSocketSystemWorkloads are those of the same names over TCP. The chat server, which makes a system
// call for each delivery, gets fewer messages.
var webSocketSystemWorkloads = map[string]workload{
	"small":   {clients: 100, messages: 1000, size: 128, divisors: map[string]int{"nats": 4, "chat": 40}},
	"default": {clients: 100, messages: 100, size: 10240, divisors: map[string]int{"nats": 20, "chat": 4}},
}

// webSocketSystems are the systems that are compared over WebSocket.
var webSocketSystems = []string{"hub", "nats", "chat"}

// webSocketSystemsScenario measures a workload at the maximum rate, with all clients connected by
// WebSocket.
func webSocketSystemsScenario(name string, wl workload) *scenario {
	wl.systems = webSocketSystems
	s := throughputScenario(name, wl)
	s.title += ", all over WebSocket"
	s.note = "Plain WebSockets drive the hub, by frames of version 2, and the chat server. nats.go drives nats-server. " +
		"All check length, sender and order of every body. No system compresses. " + strings.TrimSpace(wl.describeDivisors())
	s.subjects = systemSubjects(webSocketSystems, func(ctx context.Context, p *programs, system string) (*measurement, error) {
		return measureWebSocketWorkload(ctx, p, system, wl.forSystem(system))
	})
	return s
}

// measureWebSocketWorkload runs a workload once, on a new server.
func measureWebSocketWorkload(ctx context.Context, p *programs, system string, wl workload) (*measurement, error) {
	return withWebServer(ctx, p, system, func(s *server) (*measurement, error) {
		l, err := startWebLoad(ctx, p, s, webSocketLoads[system], wl.loadFlags()...)
		if err != nil {
			return nil, err
		}
		if err := l.waitUntilMoving(); err != nil {
			return nil, err
		}
		m, err := l.finish()
		if err != nil {
			return nil, err
		}
		return m, m.validate(system)
	})
}
