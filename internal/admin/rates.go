package admin

import (
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

const (
	// looksUnasked is how often the clients are looked at without anybody asking before
	// that ends: long enough for one who asks every minute at a sample of 5 s.
	looksUnasked = 15

	// lookPage is how many clients are taken from the hub at once.
	lookPage = 10_000
)

// rates measures how fast clients send and receive, over the time between two
// looks at all of them. It looks only while somebody wants to know: then it takes
// some 200 bytes for each client, and otherwise nothing.
type rates struct {
	hub   Hub
	every time.Duration
	ended sync.WaitGroup

	mu      sync.Mutex
	unasked int           // looks since somebody asked; meaningless while nobody looks
	stop    chan struct{} // closed by close; nil: nobody looks
	closed  bool
	before  look
	last    look
}

// look is what the clients had moved at one time.
type look struct {
	at    time.Time
	moved map[uint64]moved
}

type moved struct {
	since                                      time.Time // of the connection: another one begins anew
	messagesIn, messagesOut, bytesIn, bytesOut uint64
}

// rate is what a client moves in a second.
type rate struct{ messagesIn, messagesOut, bytesIn, bytesOut float64 }

func newRates(h Hub, every time.Duration) *rates { return &rates{hub: h, every: every} }

// want has rates measured for a while.
func (r *rates) want() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unasked = 0
	if r.stop != nil || r.closed {
		return
	}
	r.stop = make(chan struct{})
	stop := r.stop
	r.ended.Go(func() { r.sample(stop) }) // ends when nobody has asked for a while, or with close, which waits
}

// sample looks at all clients again and again.
func (r *rates) sample(stop <-chan struct{}) {
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		now := r.look()
		if !r.keep(now) {
			return
		}
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// keep takes a look in. It reports whether there is to be another one.
func (r *rates) keep(now look) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before, r.last = r.last, now
	r.unasked++
	if r.unasked <= looksUnasked {
		return true
	}
	r.before, r.last, r.stop = look{}, look{}, nil
	return false
}

func (r *rates) look() look {
	l := look{at: time.Now(), moved: make(map[uint64]moved)}
	for after := uint64(0); ; {
		infos := r.hub.Clients(after, lookPage)
		for i := range infos {
			c := &infos[i]
			l.moved[c.ID] = moved{c.Since, c.MessagesIn, c.MessagesOut, c.BytesIn, c.BytesOut}
		}
		if len(infos) < lookPage {
			return l
		}
		after = infos[len(infos)-1].ID
	}
}

// of returns the rates of a client between the last two looks, and false when it was
// not there with this connection at both.
func (r *rates) of(c *hub.ClientInfo) (rate, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, first := r.before.moved[c.ID]
	b, second := r.last.moved[c.ID]
	seconds := r.last.at.Sub(r.before.at).Seconds()
	if !first || !second || seconds <= 0 || !a.since.Equal(b.since) || !b.since.Equal(c.Since) {
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
func (r *rates) close() {
	r.mu.Lock()
	r.closed = true
	if r.stop != nil {
		close(r.stop)
		r.stop = nil
	}
	r.mu.Unlock()
	r.ended.Wait()
}
