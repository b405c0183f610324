package client

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// endpoint is one address of a client, and how to connect to it.
type endpoint struct {
	addr string // as in the addr of Dial; "" for a client of NewConn
	dial dialFunc
}

// newEndpoints returns the endpoints of the addr of Dial, in the order in which a new client tries
// them.
func newEndpoints(addr string, options *Options) ([]endpoint, error) {
	addrs := []string{addr}
	if options.Dial == nil { // otherwise addr can be any text
		addrs = splitAddrs(addr)
	}
	if len(addrs) > 1 {
		if _, err := ParseAddresses(addr); err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
	}
	endpoints := make([]endpoint, 0, len(addrs))
	for _, a := range addrs {
		dial, err := newDialFunc(a, options.Dial, options.TLS)
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, endpoint{a, dial})
	}
	if !options.InOrder {
		rand.Shuffle(len(endpoints), func(i, j int) { endpoints[i], endpoints[j] = endpoints[j], endpoints[i] })
	}
	return endpoints, nil
}

// splitAddrs splits a list of addresses at its commas. Spaces around a comma are allowed.
func splitAddrs(list string) []string {
	addrs := strings.Split(list, ",")
	if len(addrs) > 1 {
		for i, a := range addrs {
			addrs[i] = strings.TrimSpace(a)
		}
	}
	return addrs
}

// attemptRounds says at which endpoint a client makes its next attempt to connect. A round is one
// attempt at each endpoint, in their order. The client waits only before a round.
type attemptRounds struct {
	size  int // number of endpoints; static
	first int // index of the endpoint with which each round begins
	made  int // number of attempts in the current round
	begun int // number of rounds since the last WELCOME
}

// restart makes the next round the first one, which begins with the endpoint first.
func (a *attemptRounds) restart(first int) { a.first, a.made, a.begun = first%a.size, 0, 0 }

// isDone reports whether the next attempt begins a round.
func (a *attemptRounds) isDone() bool { return a.made == 0 || a.made == a.size }

// next begins a round if the last one is done, and returns the index of the next endpoint.
func (a *attemptRounds) next() int {
	if a.isDone() {
		a.made = 0
		a.begun++
	}
	a.made++
	return (a.first + a.made - 1) % a.size
}

// end ends the current round.
func (a *attemptRounds) end() { a.made = a.size }
