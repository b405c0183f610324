package simulation

import (
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/stats"
)

// Reading the clock and recording a latency take several times as long as
// everything else that is done for a small message, and the hub shares the
// processor. So of more than sampleAbove deliveries in all, one in sampleOneIn is
// measured. Which ones follows from their headers alone, so nothing that the hub
// does can hide from it, and each is measured exactly. With more than 8,192
// samples the quantiles do not suffer; the maximum is that of the samples.
const (
	sampleAbove = 1 << 16
	sampleBits  = 3
	sampleOneIn = 1 << sampleBits
)

// receiver checks what one client gets.
type receiver struct {
	// Static from before its client connects.
	epoch time.Time
	oneIn int    // messages for each whose latency is measured
	done  func() // called once, when nothing is missing any more

	judges bool // somebody may wait to hear that a message was processed

	renamed func(id uint64)      // called when the hub has given its client another id
	absent  func(e client.Event) // called when its client could not come back

	// Owned by the goroutine that reads for the client, and by the report when the
	// client is closed.
	check    *checker
	latency  *stats.Latency
	complete bool
	last     time.Duration // when the last message was measured or the run complete, since the epoch
}

// receive takes a message. It is called by the client's reading goroutine, so
// whatever has arrived is counted, whatever ends the run.
func (r *receiver) receive(m client.Message) {
	r.take(m.Body)
	r.note()
	if r.judges {
		m.Done()
	}
}

// event notes what happens to the client's connection.
func (r *receiver) event(e client.Event) {
	switch e.Kind {
	case client.EventNewID:
		r.renamed(e.ID)
	case client.EventReconnectFailed:
		r.absent(e)
	}
}

// take checks one body and, if it is one of those to be measured, its latency.
func (r *receiver) take(body []byte) {
	h, sound := r.check.take(body)
	if !sound || r.oneIn > 1 && h.mix()>>(64-sampleBits) != 0 {
		return
	}
	now := uint64(time.Since(r.epoch))
	if h.intended > now {
		r.check.distrust(h)
		return
	}
	r.last = time.Duration(now)
	r.latency.Record(time.Duration(now - h.intended))
}

// note calls done when the last missing message has come.
func (r *receiver) note() {
	if r.check.left > 0 || r.complete {
		return
	}
	r.complete = true
	r.last = time.Since(r.epoch)
	r.done()
}
