// Package reclaim frees memory while clients wait for it. It requests acknowledgements, drops
// unacknowledged messages, which the hub holds only for retransmission, and evicts clients that
// hold memory and are slow.
//
// It decides only what to do and when: the hub knows its connections, and does it. It is not on
// the path of a message, and sleeps while no client waits.
package reclaim

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// quickPassInterval is how often acknowledgements are requested and slow clients looked for
// while a client waits for memory. minQuickPassDelay is the minimum pause between two such
// passes if further clients begin to wait. With many connections the pause is nine times the
// duration of the last pass.
const (
	quickPassInterval = 5 * time.Millisecond
	minQuickPassDelay = time.Millisecond
)

// Conn is a connection that can hold memory. Its methods can be called concurrently with
// everything else that the connection does.
type Conn interface {
	Retainer
	Holder

	// ReclaimState returns where Run keeps what it knows of the connection.
	ReclaimState() *State
}

// State is what Run knows of a connection while memory is short. The zero value is ready for
// use. It is owned by Run.
type State struct {
	*samples // nil: none
}

// samples are the latest samples of a connection.
type samples struct {
	progress [samplesPerTimeout + 1]progressSample // ring buffer that covers a whole stall timeout
	unacked  unackedSample
}

// ensure creates the samples if necessary.
func (s *State) ensure() {
	if s.samples == nil {
		s.samples = new(samples)
	}
}

// Config says how Run reclaims memory.
type Config[C Conn] struct {
	Budget       *body.Budget     // of the memory for which clients wait
	AppendConns  func(to []C) []C // appends the current connections
	StallTimeout time.Duration    // time that a client has to make progress
	MinRate      int              // of a client that holds memory for which others wait, in bytes per second
	MaxBody      int              // of a message, in bytes
}

// Run reclaims memory whenever a client begins to wait for it, until stop is closed.
func Run[C Conn](config Config[C], stop <-chan struct{}) {
	for {
		select {
		case <-config.Budget.Contended():
			r := &reclaimer[C]{Config: config}
			r.run(stop)
		case <-stop:
			return
		}
	}
}

// reclaimer is the state of Run while a client waits for memory and for one stall timeout after
// that. Because of that time, a client that waits again soon finds samples that already show
// which clients are slow.
type reclaimer[C Conn] struct {
	Config[C]
	conns []C // result of listConns, reused

	sizes      []int // scratch space of requestAcks
	hadWaiters bool  // a client waited for memory at the last dropUnacked

	latest int            // index of the latest progressSample
	slow   []candidate[C] // clients found too slow, in ascending order of candidate.bytes
}

// run frees memory until no client has waited for a whole stall timeout, or stop is closed. It
// first requests acknowledgements and drops unacknowledged messages. It evicts slow clients
// later.
func (r *reclaimer[C]) run(stop <-chan struct{}) {
	sampleTick := time.NewTicker(r.StallTimeout / samplesPerTimeout)
	defer sampleTick.Stop()
	dropTick := time.NewTicker(min(minRetention, r.StallTimeout/samplesPerTimeout))
	defer dropTick.Stop()
	quickTick := time.NewTicker(quickPassInterval)
	defer quickTick.Stop()
	evictTick := time.NewTicker(evictInterval)
	defer evictTick.Stop()
	defer r.clearStates()
	r.sampleAll()
	r.dropUnacked()
	nextQuickPass, lastWait := r.quickPass(), time.Now()
	for {
		evictC := evictTick.C
		if len(r.slow) == 0 {
			evictC = nil
		}
		waiting := false
		select {
		case <-r.Budget.Contended():
			waiting = true
		case <-quickTick.C:
			waiting = r.Budget.HasWaiters()
		case <-evictC:
			r.evict()
		case <-sampleTick.C:
			r.sampleAll()
		case <-dropTick.C:
			r.dropUnacked()
		case <-stop:
			return
		}
		now := time.Now()
		if waiting && now.After(nextQuickPass) {
			nextQuickPass = r.quickPass()
		}
		switch {
		case waiting || r.Budget.HasWaiters():
			lastWait = now
		case now.Sub(lastWait) >= r.StallTimeout:
			return
		}
	}
}

// quickPass requests acknowledgements and looks for slow clients. It returns the time of the
// earliest next call.
func (r *reclaimer[C]) quickPass() (next time.Time) {
	start := time.Now()
	r.requestAcks()
	if len(r.slow) == 0 {
		r.findSlow()
	}
	now := time.Now()
	return now.Add(max(minQuickPassDelay, 9*now.Sub(start)))
}

// listConns returns the current connections. The slice is valid until the next call.
func (r *reclaimer[C]) listConns() []C {
	clear(r.conns) // drops references to closed connections
	r.conns = r.AppendConns(r.conns[:0])
	return r.conns
}

// clearStates deletes what is known of the connections.
func (r *reclaimer[C]) clearStates() {
	for _, c := range r.listConns() {
		*c.ReclaimState() = State{}
	}
}

// belowMinRate reports whether n bytes in elapsed are less than MinRate requires.
func (r *reclaimer[C]) belowMinRate(n int64, elapsed time.Duration) bool {
	return float64(n) < float64(r.MinRate)*elapsed.Seconds()
}
