package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// pattern is who sends what to whom.
type pattern struct {
	clients  int
	senders  int // the first of the clients; 0 is all
	to       int // receivers of each message, drawn at random; 0 is everyone else
	messages int // of each sender
	size     int // bytes of a body

	// verify is how closely start_simulation looks, which then drives the hub: the
	// figures are those that its users see. Without it, the load program does.
	verify string

	// fewer divides the messages of a system that would take minutes otherwise. Each
	// still works for a second or more, and rates are compared.
	fewer map[string]int

	systems []string
}

// patterns are the scenarios that move messages as fast as they go.
var patterns = map[string]pattern{
	// Nobody slows the senders of a peer down whose limits are raised: nats-server
	// holds 2 GB in this, and with as many messages mosquitto would hold 7, and
	// redis-server all of it, 12.
	"default": {
		clients: 100, messages: 100, size: 10240, verify: "header",
		systems: []string{"hub", "limit", "nats", "redis", "mosquitto"},
		fewer:   map[string]int{"redis": 4, "mosquitto": 4},
	},
	"small": {
		clients: 100, messages: 1000, size: 128, verify: "header",
		systems: []string{"hub", "limit", "nats", "redis", "mosquitto"},
		fewer:   map[string]int{"nats": 2, "redis": 2, "mosquitto": 8},
	},
	"scattered": {
		clients: 100, to: 10, messages: 4000, size: 128,
		systems: []string{"hub", "nats", "redis", "mosquitto"},
		fewer:   map[string]int{"nats": 4, "redis": 4, "mosquitto": 16},
	},
	"tiny16": {
		clients: 2, senders: 1, messages: 8_000_000, size: 16,
		systems: []string{"hub", "nats", "redis", "mosquitto"},
		fewer:   map[string]int{"nats": 4, "redis": 8, "mosquitto": 32},
	},
	"tiny128": {
		clients: 2, senders: 1, messages: 5_000_000, size: 128,
		systems: []string{"hub", "nats", "redis", "mosquitto"},
		fewer:   map[string]int{"nats": 3, "redis": 5, "mosquitto": 20},
	},
	"heavy": {
		clients: 255, messages: 1, size: 1_024_000, verify: "header",
		systems: []string{"hub", "limit"},
	},
}

// fanout returns to how many clients a message goes.
func (s *pattern) fanout() int {
	if s.to > 0 {
		return s.to
	}
	return s.clients - 1
}

// from returns how many clients send.
func (s *pattern) from() int {
	if s.senders > 0 {
		return s.senders
	}
	return s.clients
}

func (s *pattern) deliveries() uint64 {
	return uint64(s.from()) * uint64(s.fanout()) * uint64(s.messages)
}

// receivers says to whom a message goes.
func (s *pattern) receivers() string {
	switch {
	case s.to > 0:
		return fmt.Sprintf("%d others drawn at random", s.to)
	case s.clients == 2:
		return "the other"
	default:
		return "everyone else"
	}
}

// who says which clients send.
func (s *pattern) who() string {
	switch s.from() {
	case s.clients:
		return fmt.Sprintf("%d clients each send", s.clients)
	case 1:
		return fmt.Sprintf("one of %d clients sends", s.clients)
	default:
		return fmt.Sprintf("%d of %d clients each send", s.senders, s.clients)
	}
}

// brief says what the pattern is in a few words.
func (s *pattern) brief() string {
	return upper(fmt.Sprintf("%s %s bytes to %s", s.who(), number(float64(s.size)), s.receivers()))
}

// title says it in all words.
func (s *pattern) title() string {
	return fmt.Sprintf("%s %s messages of %s bytes to %s: %s deliveries",
		s.who(), number(float64(s.messages)), number(float64(s.size)), s.receivers(), number(float64(s.deliveries())))
}

// note says how the systems were driven.
func (s *pattern) note() string {
	text := "`load move` drives each system through its client library, and checks length, sender and order of every body. "
	if s.verify != "" {
		text = "`start_simulation -i=0 -verify=" + s.verify + "` drives the hub, `load move` the peers, each through its client " +
			"library; it checks length, sender and order of every body. "
	}
	if slices.Contains(s.systems, "limit") {
		text += "The limit is two processes with as many sockets, one that writes the same bytes, 64 KiB at a time, " +
			"and one that reads and discards them. "
	}
	if s.to > 0 {
		text += "The hub takes one message for all its receivers; the others take one for each, as they know no other way. "
	} else if s.clients > 2 {
		text += "Redis and mosquitto also hand each client its own messages, which are not counted. "
	}
	for _, system := range s.systems {
		if by := s.fewer[system]; by > 0 {
			text += fmt.Sprintf("Messages to %s: one for each %d. ", system, by)
		}
	}
	return strings.TrimSpace(text)
}

// flags returns what the load program is told.
func (s *pattern) flags() []string {
	return []string{
		"-clients=" + strconv.Itoa(s.clients), "-senders=" + strconv.Itoa(s.senders), "-to=" + strconv.Itoa(s.to),
		"-messages=" + strconv.Itoa(s.messages), "-size=" + strconv.Itoa(s.size),
	}
}

// of returns the pattern as a system gets it.
func (s pattern) of(system string) pattern {
	if by := s.fewer[system]; by > 0 {
		s.messages /= by
	}
	return s
}

// rateHeading is that of the ratio by which patterns are judged.
const rateHeading = "hub's rate ÷ its"

// patternScenario measures one of the patterns.
func (b *bench) patternScenario(name string) *scenario { return b.scenarioOf(name, patterns[name]) }

// scenarioOf measures a pattern.
func (b *bench) scenarioOf(name string, p pattern) *scenario {
	if b.verify != "" && p.verify != "" {
		p.verify = b.verify
	}
	s := &scenario{
		name: name, title: p.title(), note: p.note(),
		columns: p.columns(),
		ratios: []ratio{
			{heading: rateHeading, base: "hub", of: func(hub, it *measured) float64 { return hub.rate() / it.rate() }},
			{heading: "hub's CPU ÷ its, server and clients", base: "hub", of: func(hub, it *measured) float64 { return hub.cpuEach() / it.cpuEach() }},
		},
		charts: []chart{{title: p.brief(), unit: rateColumn.heading, bars: []series{{of: rateColumn.of}}}},
	}
	for _, system := range p.systems {
		s.subjects = append(s.subjects, subject{system, []string{system}, func(ctx context.Context) (*measured, error) {
			return b.measurePattern(ctx, system, p.of(system))
		}})
	}
	return s
}

var rateColumn = column{heading: "million deliveries/s", of: func(m *measured) float64 { return m.rate() / 1e6 }}

// columns are the figures of a pattern. Times are for each delivery: some systems
// have fewer.
func (s *pattern) columns() []column {
	megabyte := float64(s.size) / 1e6
	return []column{
		rateColumn,
		{heading: "MB/s of bodies", of: func(m *measured) float64 { return m.rate() * megabyte }},
		{heading: "server, peak resident MiB", of: func(m *measured) float64 { return m.Server.PeakMiB }},
		{heading: "server, CPU µs for a delivery", of: func(m *measured) float64 { return m.Server.CPU / float64(m.Deliveries) * 1e6 }},
		{heading: "clients, CPU µs for a delivery", of: func(m *measured) float64 { return m.LoadCPU / float64(m.Deliveries) * 1e6 }},
	}
}

// measurePattern is one run of a pattern, with a server of its own.
func (b *bench) measurePattern(ctx context.Context, system string, p pattern) (*measured, error) {
	if system == "limit" {
		return measureLimit(ctx, b.programs, p, nil)
	}
	return b.with(ctx, system, raised, func(s *server) (*measured, error) {
		if system == "hub" && p.verify != "" {
			return simulate(ctx, b.programs, p, at(s.addr)...)
		}
		return b.move(ctx, s, p.flags()...)
	})
}
