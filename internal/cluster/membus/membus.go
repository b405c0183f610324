// Package membus carries frames between hubs in memory, for tests. It can lose, double, delay and
// reorder frames, cut the way between two hubs, and isolate a hub from all others. It works in
// virtual time.
package membus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/cluster"
)

// Errors of Carrier.Send.
var (
	ErrIsolated = errors.New("the hub is isolated")
	ErrClosed   = errors.New("the carrier is closed")
	ErrTooLarge = fmt.Errorf("the frame has more than %d bytes", cluster.MaxFrame)
)

// Faults is what a bus does to frames. Its zero value carries all frames at once and in order.
type Faults struct {
	Loss               float64       // share of the frames that are lost, from 0 to 1
	Duplication        float64       // share of the frames that arrive twice
	MinDelay, MaxDelay time.Duration // a frame arrives after a random time between these

	// Reorder is the share of the frames that do not wait for the frames that the same hub has
	// sent to the same hub before.
	Reorder float64
}

// Counts is what has happened to the frames of a bus. A frame to all hubs counts once for each.
// Each Sent or Doubled frame becomes Lost, Cut or Delivered, or is still on its way.
type Counts struct {
	Sent, Doubled uint64
	Lost          uint64 // by Faults.Loss, or because the other hub is gone or does not receive
	Cut           uint64 // by Cut or Isolate
	Delivered     uint64
	Bytes         uint64 // of the frames sent
}

// Bus connects hubs. Its methods can be called concurrently.
//
// What the faults do to the n-th frame from one hub to another depends only on the seed, the two
// hubs, n and the faults, and not on what other hubs do at the same time.
type Bus struct {
	seed uint64 // static after construction

	// Guarded by mu.
	mu       sync.Mutex
	faults   Faults
	carriers map[cluster.Node]*Carrier
	routes   map[route]*routeState
	isolated map[cluster.Node]bool
	counts   Counts
	sent     uint64 // orders deliveries at the same time
}

// route is the way from one hub to another.
type route struct{ from, to cluster.Node }

// routeState is what a bus knows of a route.
type routeState struct {
	random *rand.Rand
	last   time.Time // when the last frame in order arrives
	cut    bool
}

// New returns a bus without faults. The seed determines the faults that SetFaults permits.
func New(seed uint64) *Bus {
	return &Bus{
		seed:     seed,
		carriers: make(map[cluster.Node]*Carrier),
		routes:   make(map[route]*routeState),
		isolated: make(map[cluster.Node]bool),
	}
}

// Join returns the carrier of a hub. It panics if the bus has an open carrier of this hub, or if
// node is 0.
func (b *Bus) Join(node cluster.Node) *Carrier {
	c := &Carrier{bus: b, node: node, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if node == 0 || b.carriers[node] != nil {
		panic(fmt.Sprintf("membus: node %d cannot join", node))
	}
	b.carriers[node] = c
	return c
}

// SetFaults replaces the faults, for frames that are sent from now on.
func (b *Bus) SetFaults(faults Faults) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = faults
}

// Cut loses all frames between two hubs, in both directions, until Heal. Frames that are on their
// way are lost, unless Heal is called before they arrive. The senders notice nothing.
func (b *Bus) Cut(one, other cluster.Node) { b.setCut(one, other, true) }

// Heal ends Cut.
func (b *Bus) Heal(one, other cluster.Node) { b.setCut(one, other, false) }

func (b *Bus) setCut(one, other cluster.Node, cut bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.route(one, other).cut, b.route(other, one).cut = cut, cut
}

// Isolate loses all frames to and from a hub until Rejoin, like Cut. In addition, its carrier knows
// it, and Send returns ErrIsolated.
func (b *Bus) Isolate(node cluster.Node) { b.setIsolated(node, true) }

// Rejoin ends Isolate.
func (b *Bus) Rejoin(node cluster.Node) { b.setIsolated(node, false) }

func (b *Bus) setIsolated(node cluster.Node, isolated bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.isolated[node] = isolated
}

// Counts returns what has happened so far.
func (b *Bus) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}

// send is Carrier.Send.
func (b *Bus) send(c *Carrier, to cluster.Node, frame []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.carriers[c.node] != c:
		return ErrClosed
	case b.isolated[c.node]:
		return ErrIsolated
	case len(frame) > cluster.MaxFrame:
		return ErrTooLarge
	case to != 0:
		b.sendOne(route{c.node, to}, frame)
		return nil
	}
	for node := range b.carriers {
		if node != c.node {
			b.sendOne(route{c.node, node}, frame)
		}
	}
	return nil
}

// The following are called with mu held.

// sendOne sends a frame on one route. It draws the same number of random numbers for each frame.
func (b *Bus) sendOne(r route, frame []byte) {
	b.counts.Sent++
	b.counts.Bytes += uint64(len(frame))
	state := b.route(r.from, r.to)
	lost := state.random.Float64() < b.faults.Loss
	doubled := state.random.Float64() < b.faults.Duplication
	first, second := b.arrival(state), b.arrival(state)
	if lost {
		b.counts.Lost++
		return
	}
	b.deliver(r, frame, first)
	if doubled {
		b.counts.Doubled++
		b.deliver(r, frame, second)
	}
}

// arrival draws when a frame that is sent now arrives.
func (b *Bus) arrival(state *routeState) time.Time {
	delay := b.faults.MinDelay + time.Duration(state.random.Float64()*float64(b.faults.MaxDelay-b.faults.MinDelay))
	at := time.Now().Add(delay)
	if state.random.Float64() < b.faults.Reorder {
		return at
	}
	if at.Before(state.last) {
		at = state.last
	}
	state.last = at
	return at
}

// deliver gives a copy of frame to the carrier at the end of a route.
func (b *Bus) deliver(r route, frame []byte, at time.Time) {
	c := b.carriers[r.to]
	if c == nil || !c.receiving {
		b.counts.Lost++
		return
	}
	b.sent++
	c.push(delivery{from: r.from, at: at, number: b.sent, frame: append(make([]byte, 0, len(frame)), frame...)})
}

// passes reports whether a frame that arrives now on a route reaches its end.
func (b *Bus) passes(r route) bool {
	return !b.isolated[r.from] && !b.isolated[r.to] && !b.route(r.from, r.to).cut
}

// route returns the state of a route.
func (b *Bus) route(from, to cluster.Node) *routeState {
	r := route{from, to}
	state := b.routes[r]
	if state == nil {
		state = &routeState{random: rand.New(rand.NewPCG(b.seed, uint64(from)<<32|uint64(to)))}
		b.routes[r] = state
	}
	return state
}
