package admin

import (
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

const (
	// maxIdleSamples is how often the clients are looked at without anybody asking before
	// that ends: long enough for one who asks every minute at a sample of 5 s.
	maxIdleSamples = 15

	// samplePageSize is how many clients are taken from the hub at once.
	samplePageSize = 10_000
)

// rateSampler measures how fast clients send and receive, over the time between two
// looks at all of them. It looks only while somebody wants to know: then it takes
// some 200 bytes for each client, and otherwise nothing.
type rateSampler struct {
	hub      Hub
	interval time.Duration
	wg       sync.WaitGroup

	mu          sync.Mutex
	idleSamples int           // looks since somebody asked; meaningless while nobody looks
	stop        chan struct{} // closed by close; nil: nobody looks
	closed      bool
	previous    snapshot
	latest      snapshot
}

// snapshot is what the clients had moved at one time.
type snapshot struct {
	at      time.Time
	clients map[uint64]clientCounters
}

type clientCounters struct {
	since                                      time.Time // of the connection: another one begins anew
	messagesIn, messagesOut, bytesIn, bytesOut uint64
}

// rate is what a client moves in a second.
type rate struct{ messagesIn, messagesOut, bytesIn, bytesOut float64 }

func newRateSampler(h Hub, interval time.Duration) *rateSampler {
	return &rateSampler{hub: h, interval: interval}
}

// requestSampling has rates measured for a while.
func (r *rateSampler) requestSampling() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idleSamples = 0
	if r.stop != nil || r.closed {
		return
	}
	r.stop = make(chan struct{})
	stop := r.stop
	r.wg.Go(func() { r.sampleLoop(stop) }) // ends when nobody has asked for a while, or with close, which waits
}

// sampleLoop looks at all clients again and again.
func (r *rateSampler) sampleLoop(stop <-chan struct{}) {
	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	for {
		snap := r.takeSnapshot()
		if !r.store(snap) {
			return
		}
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// store takes a look in. It reports whether there is to be another one.
func (r *rateSampler) store(snap snapshot) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.previous, r.latest = r.latest, snap
	r.idleSamples++
	if r.idleSamples <= maxIdleSamples {
		return true
	}
	r.previous, r.latest, r.stop = snapshot{}, snapshot{}, nil
	return false
}

func (r *rateSampler) takeSnapshot() snapshot {
	snap := snapshot{at: time.Now(), clients: make(map[uint64]clientCounters)}
	for after := uint64(0); ; {
		infos := r.hub.Clients(after, samplePageSize)
		for i := range infos {
			c := &infos[i]
			snap.clients[c.ID] = clientCounters{c.Since, c.MessagesIn, c.MessagesOut, c.BytesIn, c.BytesOut}
		}
		if len(infos) < samplePageSize {
			return snap
		}
		after = infos[len(infos)-1].ID
	}
}

// rateOf returns the rates of a client between the last two looks, and false when it was
// not there with this connection at both.
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

// close ends the looking and waits for its end.
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
