package main

import (
	"strconv"
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

// loadFlags returns the flags of the load program.
func (wl *workload) loadFlags() []string {
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

// withVerify returns the workload with another -verify flag, if verify is not "" and
// start_simulation drives the hub.
func (wl workload) withVerify(verify string) workload {
	if verify != "" && wl.verify != "" {
		wl.verify = verify
	}
	return wl
}
