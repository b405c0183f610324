package admin

import (
	"iter"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// maxIdleSamples is the maximum number of samples since the last request. 15 samples of 5 s keep
// the sampling alive between requests that come once a minute.
const maxIdleSamples = 15

// rateSampler measures the rates of all clients, from their counters in two consecutive
// samples. It samples only while requests ask for rates. It holds about 200 bytes per client
// then, and nothing otherwise.
type rateSampler struct {
	list     func(after uint64) iter.Seq[hub.ClientInfo] // Hub.ClientsAfter
	interval time.Duration
	wg       sync.WaitGroup

	mu          sync.Mutex
	idleSamples int           // samples since the last request; valid while stop is not nil
	stop        chan struct{} // closed by close; nil: the sampling goroutine does not run
	closed      bool
	previous    snapshot
	latest      snapshot
}

// snapshot is the counters of all clients at one time.
type snapshot struct {
	at      time.Time
	clients map[uint64]clientCounters
}

// clientCounters are the counters of one connection of a client. They begin at 0 with each
// connection.
type clientCounters struct {
	since                                      time.Time // start of the connection
	messagesIn, messagesOut, bytesIn, bytesOut uint64
}

// rate is the traffic of a client, per second.
type rate struct{ messagesIn, messagesOut, bytesIn, bytesOut float64 }

// newRateSampler returns a sampler of the clients that list returns, as Hub.ClientsAfter does.
func newRateSampler(list func(after uint64) iter.Seq[hub.ClientInfo], interval time.Duration) *rateSampler {
	return &rateSampler{list: list, interval: interval}
}

// requestSampling starts the sampling goroutine, or keeps it running for maxIdleSamples more
// samples.
func (r *rateSampler) requestSampling() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idleSamples = 0
	if r.stop != nil || r.closed {
		return
	}
	r.stop = make(chan struct{})
	stop := r.stop
	// The goroutine ends after maxIdleSamples samples without a request, or with close, which
	// waits for it.
	r.wg.Go(func() { r.sampleLoop(stop) })
}

// sampleLoop takes a snapshot per interval, until store returns false or stop is closed.
func (r *rateSampler) sampleLoop(stop <-chan struct{}) {
	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	var spare map[uint64]clientCounters
	for {
		var goesOn bool
		if spare, goesOn = r.store(r.takeSnapshot(spare)); !goesOn {
			return
		}
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// store stores a snapshot. It returns a map that is not needed any more, and whether sampling goes
// on.
func (r *rateSampler) store(snap snapshot) (spare map[uint64]clientCounters, goesOn bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	spare = r.previous.clients
	r.previous, r.latest = r.latest, snap
	r.idleSamples++
	if r.idleSamples <= maxIdleSamples {
		return spare, true
	}
	r.previous, r.latest, r.stop = snapshot{}, snapshot{}, nil
	return nil, false
}

// takeSnapshot returns the counters of all clients. It uses spare for them unless that is nil.
func (r *rateSampler) takeSnapshot(spare map[uint64]clientCounters) snapshot {
	if spare == nil {
		spare = make(map[uint64]clientCounters)
	}
	clear(spare)
	snap := snapshot{at: time.Now(), clients: spare}
	for c := range r.list(0) {
		snap.clients[c.ID] = clientCounters{c.Since, c.MessagesIn, c.MessagesOut, c.BytesIn, c.BytesOut}
	}
	return snap
}

// rateOf returns the rates of a client between the last two samples. It returns false unless both
// samples have the current connection of the client.
func (r *rateSampler) rateOf(c *hub.ClientInfo) (rate, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, inPrevious := r.previous.clients[c.ID]
	b, inLatest := r.latest.clients[c.ID]
	seconds := r.latest.at.Sub(r.previous.at).Seconds()
	if !inPrevious || !inLatest || seconds <= 0 || !a.since.Equal(b.since) || !b.since.Equal(c.Since) {
		return rate{}, false
	}
	return rate{
		messagesIn:  float64(b.messagesIn-a.messagesIn) / seconds,
		messagesOut: float64(b.messagesOut-a.messagesOut) / seconds,
		bytesIn:     float64(b.bytesIn-a.bytesIn) / seconds,
		bytesOut:    float64(b.bytesOut-a.bytesOut) / seconds,
	}, true
}

// close stops the sampling goroutine and waits for it.
func (r *rateSampler) close() {
	r.mu.Lock()
	r.closed = true
	if r.stop != nil {
		close(r.stop)
		r.stop = nil
	}
	r.mu.Unlock()
	r.wg.Wait()
}
