package main

import (
	"fmt"
	"slices"
	"strings"
)

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

// describeShortly describes the pattern in a few words.
func (wl *workload) describeShortly() string {
	return capitalize(fmt.Sprintf("%s %s bytes to %s", wl.describeSenders(), formatNumber(float64(wl.size)), wl.describeReceivers()))
}

// describe describes the pattern completely.
func (wl *workload) describe() string {
	return fmt.Sprintf("%s %s messages of %s bytes to %s: %s deliveries",
		wl.describeSenders(), formatNumber(float64(wl.messages)), formatNumber(float64(wl.size)), wl.describeReceivers(), formatNumber(float64(wl.deliveries())))
}

// describeDriving describes how the systems are driven.
func (wl *workload) describeDriving() string {
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
	return strings.TrimSpace(text + wl.describeDivisors())
}

// describeDivisors describes which systems get fewer messages.
func (wl *workload) describeDivisors() (text string) {
	for _, system := range wl.systems {
		if divisor := wl.divisors[system]; divisor > 0 {
			text += fmt.Sprintf("With %s, each sender sends 1/%d of the messages. ", system, divisor)
		}
	}
	return text
}
