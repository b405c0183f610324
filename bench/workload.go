package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// workload is a pattern of messages: which clients send how much to which receivers.
type workload struct {
	clients         int
	senders         int // the first of the clients; 0 for all
	randomReceivers int // receivers of each message, chosen at random; 0 for all other clients
	messages        int // of each sender
	size            int // bytes of a body

	// verify is the -verify flag of start_simulation, which then drives the hub, and the figures
	// are those that its users see. If it is "", the load program drives the hub.
	verify string

	// divisors divides the number of messages of slow systems, which would take minutes
	// otherwise. Each run still takes a second or more, and rates are compared.
	divisors map[string]int

	systems []string
}

// workloads are the workloads of the scenarios that move messages at the maximum rate.
var workloads = map[string]workload{
	// A system with raised limits does not slow its senders down: nats-server holds 2 GB in this
	// workload. With as many messages mosquitto would hold 7 GB, and redis-server all 12 GB.
	"default": {
		clients: 100, messages: 100, size: 10240, verify: "header",
		systems:  []string{"hub", "limit", "nats", "redis", "mosquitto"},
		divisors: map[string]int{"redis": 4, "mosquitto": 4},
	},
	"small": {
		clients: 100, messages: 1000, size: 128, verify: "header",
		systems:  []string{"hub", "limit", "nats", "redis", "mosquitto"},
		divisors: map[string]int{"nats": 2, "redis": 2, "mosquitto": 8},
	},
	"scattered": {
		clients: 100, randomReceivers: 10, messages: 4000, size: 128,
		systems:  []string{"hub", "nats", "redis", "mosquitto"},
		divisors: map[string]int{"nats": 4, "redis": 4, "mosquitto": 16},
	},
	"tiny16": {
		clients: 2, senders: 1, messages: 8_000_000, size: 16,
		systems:  []string{"hub", "nats", "redis", "mosquitto"},
		divisors: map[string]int{"nats": 4, "redis": 8, "mosquitto": 32},
	},
	"tiny128": {
		clients: 2, senders: 1, messages: 5_000_000, size: 128,
		systems:  []string{"hub", "nats", "redis", "mosquitto"},
		divisors: map[string]int{"nats": 3, "redis": 5, "mosquitto": 20},
	},
	"heavy": {
		clients: 255, messages: 1, size: 1_024_000, verify: "header",
		systems: []string{"hub", "limit"},
	},
}

// fanout returns the number of receivers of a message.
func (wl *workload) fanout() int {
	if wl.randomReceivers > 0 {
		return wl.randomReceivers
	}
	return wl.clients - 1
}

// senderCount returns the number of clients that send.
func (wl *workload) senderCount() int {
	if wl.senders > 0 {
		return wl.senders
	}
	return wl.clients
}

func (wl *workload) deliveries() uint64 {
	return uint64(wl.senderCount()) * uint64(wl.fanout()) * uint64(wl.messages)
}

// describeReceivers describes the receivers of a message.
func (wl *workload) describeReceivers() string {
	switch {
	case wl.randomReceivers > 0:
		return fmt.Sprintf("%d others chosen at random", wl.randomReceivers)
	case wl.clients == 2:
		return "the other"
	default:
		return "everyone else"
	}
}

// describeSenders describes the senders.
func (wl *workload) describeSenders() string {
	switch wl.senderCount() {
	case wl.clients:
		return fmt.Sprintf("%d clients each send", wl.clients)
	case 1:
		return fmt.Sprintf("one of %d clients sends", wl.clients)
	default:
		return fmt.Sprintf("%d of %d clients each send", wl.senders, wl.clients)
	}
}

// chartTitle describes the pattern in a few words.
func (wl *workload) chartTitle() string {
	return capitalize(fmt.Sprintf("%s %s bytes to %s", wl.describeSenders(), formatNumber(float64(wl.size)), wl.describeReceivers()))
}

// title describes the pattern completely.
func (wl *workload) title() string {
	return fmt.Sprintf("%s %s messages of %s bytes to %s: %s deliveries",
		wl.describeSenders(), formatNumber(float64(wl.messages)), formatNumber(float64(wl.size)), wl.describeReceivers(), formatNumber(float64(wl.deliveries())))
}

// note describes how the systems are driven.
func (wl *workload) note() string {
	text := "`load move` drives each system through its client library and checks length, sender and order of every body. "
	if wl.verify != "" {
		text = "`start_simulation -i=0 -verify=" + wl.verify + "` drives the hub. `load move` drives each other system through its " +
			"client library. Both check length, sender and order of every body. "
	}
	if slices.Contains(wl.systems, "limit") {
		text += "The limit is two processes with the same number of sockets: one writes the same bytes, 64 KiB at a time, " +
			"and the other reads and discards them. "
	}
	if wl.randomReceivers > 0 {
		text += "The hub takes one message for all its receivers. The other systems need one message for each receiver. "
	} else if wl.clients > 2 {
		text += "Redis and mosquitto also deliver to each client its own messages, which are not counted. "
	}
	for _, system := range wl.systems {
		if divisor := wl.divisors[system]; divisor > 0 {
			text += fmt.Sprintf("With %s, each sender sends 1/%d of the messages. ", system, divisor)
		}
	}
	return strings.TrimSpace(text)
}

// flags returns the flags of the load program.
func (wl *workload) flags() []string {
	return []string{
		"-clients=" + strconv.Itoa(wl.clients), "-senders=" + strconv.Itoa(wl.senders), "-to=" + strconv.Itoa(wl.randomReceivers),
		"-messages=" + strconv.Itoa(wl.messages), "-size=" + strconv.Itoa(wl.size),
	}
}

// forSystem returns the workload with the number of messages for a system.
func (wl workload) forSystem(system string) workload {
	if divisor := wl.divisors[system]; divisor > 0 {
		wl.messages /= divisor
	}
	return wl
}

// rateHeading is the heading of the ratio that the smoke scenarios check.
const rateHeading = "hub's rate ÷ this system's rate"

// workloadScenario measures one of workloads.
func (b *bench) workloadScenario(name string) *scenario {
	return b.newWorkloadScenario(name, workloads[name])
}

// newWorkloadScenario measures a workload.
func (b *bench) newWorkloadScenario(name string, wl workload) *scenario {
	if b.verify != "" && wl.verify != "" {
		wl.verify = b.verify
	}
	s := &scenario{
		name: name, title: wl.title(), note: wl.note(),
		columns: wl.columns(),
		ratios: []ratio{
			{heading: rateHeading, base: "hub", value: func(hub, other *measurement) float64 { return hub.rate() / other.rate() }},
			{heading: "hub's CPU ÷ this system's CPU, server and clients", base: "hub", value: func(hub, other *measurement) float64 { return hub.cpuPerDelivery() / other.cpuPerDelivery() }},
		},
		charts: []chart{{title: wl.chartTitle(), unit: rateColumn.heading, bars: []series{{value: rateColumn.value}}}},
	}
	for _, system := range wl.systems {
		s.subjects = append(s.subjects, subject{system, []string{system}, func(ctx context.Context) (*measurement, error) {
			return b.measureWorkload(ctx, system, wl.forSystem(system))
		}})
	}
	return s
}

var rateColumn = column{heading: "million deliveries/s", value: func(m *measurement) float64 { return m.rate() / 1e6 }}

// columns returns the columns of a workload. Processor times are for each delivery, because
// some systems get fewer messages.
func (wl *workload) columns() []column {
	megabyte := float64(wl.size) / 1e6
	return []column{
		rateColumn,
		{heading: "MB/s of bodies", value: func(m *measurement) float64 { return m.rate() * megabyte }},
		{heading: "server, peak resident MiB", value: func(m *measurement) float64 { return m.Server.PeakMiB }},
		{heading: "server, CPU µs per delivery", value: func(m *measurement) float64 { return m.Server.CPU / float64(m.Deliveries) * 1e6 }},
		{heading: "clients, CPU µs per delivery", value: func(m *measurement) float64 { return m.LoadCPU / float64(m.Deliveries) * 1e6 }},
	}
}

// measureWorkload runs a workload once, on a new server.
func (b *bench) measureWorkload(ctx context.Context, system string, wl workload) (*measurement, error) {
	if system == "limit" {
		return measureLimit(ctx, b.programs, wl, nil)
	}
	return b.withServer(ctx, system, limitsRaised, func(s *server) (*measurement, error) {
		if system == "hub" && wl.verify != "" {
			return simulate(ctx, b.programs, wl, addrFlags(s.addr)...)
		}
		return b.measureMove(ctx, s, wl.flags()...)
	})
}
