package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// plan is which client sends which messages to which receivers. It is determined by its
// parameters and the seed, therefore every system gets the same plan.
type plan struct {
	clients  int
	senders  int // the first of the clients
	fanout   int // receivers of each message
	messages int // of each sender
	size     int // bytes of a body

	// Of a plan with random receivers; nil when every message goes to all other clients.
	to  [][]int32    // by sender: the receivers of all its messages, fanout for each
	due [][][]uint32 // by receiver and sender: the numbers of the messages to the receiver
}

// newPlan returns the plan in which each message goes to fanout random receivers, or to all
// other clients when fanout is 0.
func newPlan(clients, senders, fanout, messages, size int, seed uint64) (*plan, error) {
	switch {
	case clients < 2:
		return nil, fmt.Errorf("%d clients, want at least 2", clients)
	case senders < 1 || senders > clients:
		return nil, fmt.Errorf("%d senders, want 1 to %d", senders, clients)
	case fanout < 0 || fanout >= clients:
		return nil, fmt.Errorf("%d receivers for each message, want 1 to %d", fanout, clients-1)
	case messages < 1:
		return nil, fmt.Errorf("%d messages, want at least 1", messages)
	case size < headerSize:
		return nil, fmt.Errorf("bodies of %d bytes, want at least %d for the header", size, headerSize)
	}
	p := &plan{clients: clients, senders: senders, fanout: fanout, messages: messages, size: size}
	if fanout == 0 {
		p.fanout = clients - 1
		return p, nil
	}
	p.drawReceivers(seed)
	return p, nil
}

// drawReceivers draws distinct receivers for every message, without its sender.
func (p *plan) drawReceivers(seed uint64) {
	p.to = make([][]int32, p.senders)
	p.due = make([][][]uint32, p.clients)
	for r := range p.due {
		p.due[r] = make([][]uint32, p.senders)
	}
	for s := range p.to {
		random := rand.New(rand.NewPCG(seed, uint64(s)))
		p.to[s] = make([]int32, 0, p.messages*p.fanout)
		for k := range p.messages {
			for range p.fanout {
				r := p.drawReceiver(random, s, p.to[s][k*p.fanout:])
				p.to[s] = append(p.to[s], r)
				p.due[r][s] = append(p.due[r][s], uint32(k))
			}
		}
	}
}

// drawReceiver draws a client that is neither s nor in taken.
func (p *plan) drawReceiver(random *rand.Rand, s int, taken []int32) int32 {
	for {
		r := random.Int32N(int32(p.clients))
		if int(r) != s && !slices.Contains(taken, r) {
			return r
		}
	}
}

// receivers returns the receivers of message k of sender s. It returns nil for all other
// clients.
func (p *plan) receivers(s, k int) []int32 {
	if p.to == nil {
		return nil
	}
	return p.to[s][k*p.fanout : (k+1)*p.fanout]
}

// expected returns how many bodies client r is expected to receive.
func (p *plan) expected(r int) uint64 {
	n := uint64(0)
	for s := range p.senders {
		n += uint64(p.dueCount(r, s))
	}
	return n
}

// dueCount returns how many messages of sender s go to client r.
func (p *plan) dueCount(r, s int) int {
	switch {
	case p.to != nil:
		return len(p.due[r][s])
	case r == s:
		return 0
	default:
		return p.messages
	}
}

// deliveries returns the total number of expected deliveries.
func (p *plan) deliveries() uint64 {
	return uint64(p.senders) * uint64(p.messages) * uint64(p.fanout)
}
