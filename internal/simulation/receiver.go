package simulation

import (
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/stats"
)

// Reading the clock and recording a latency take several times as long as
// everything else that is done for a small message, and the hub shares the
// processor. So of more than sampleThreshold deliveries in all, one in sampleOneIn is
// measured. Which ones follows from their headers alone, so nothing that the hub
// does can hide from it, and each is measured exactly. With more than 8,192
// samples the quantiles do not suffer; the maximum is that of the samples.
const (
	sampleThreshold = 1 << 16
	sampleBits      = 3
	sampleOneIn     = 1 << sampleBits
)

// receiver checks what one client gets.
type receiver struct {
	// Static from before its client connects.
	epoch      time.Time
	oneIn      int    // messages for each whose latency is measured
	onComplete func() // called once, when nothing is missing any more

	acksMessages bool // somebody may wait to hear that a message was processed

	onNewID           func(id uint64)      // called when the hub has given its client another id
	onReconnectFailed func(e client.Event) // called when its client could not come back

	// Owned by the goroutine that reads for the client, and by the report when the
	// client is closed.
	checker     *checker
	latency     *stats.Latency
	complete    bool
	lastArrival time.Duration // when the last message was measured or the run complete, since the epoch
}

// handleMessage takes a message. It is called by the client's reading goroutine, so
// whatever has arrived is counted, whatever ends the run.
func (r *receiver) handleMessage(m client.Message) {
	r.checkBody(m.Body)
	r.checkComplete()
	if r.acksMessages {
		m.Ack()
	}
}

// handleEvent notes what happens to the client's connection.
func (r *receiver) handleEvent(e client.Event) {
	switch e.Kind {
	case client.EventNewID:
		r.onNewID(e.ID)
	case client.EventReconnectFailed:
		r.onReconnectFailed(e)
	}
}

// checkBody checks one body and, if it is one of those to be measured, its latency.
func (r *receiver) checkBody(body []byte) {
	h, ok := r.checker.check(body)
	if !ok || r.oneIn > 1 && h.mix()>>(64-sampleBits) != 0 {
		return
	}
	now := uint64(time.Since(r.epoch))
	if h.intended > now {
		r.checker.recordCorrupted(h)
		return
	}
	r.lastArrival = time.Duration(now)
	r.latency.Record(time.Duration(now - h.intended))
}

// checkComplete calls done when the last missing message has come.
func (r *receiver) checkComplete() {
	if r.checker.remaining > 0 || r.complete {
		return
	}
	r.complete = true
	r.lastArrival = time.Since(r.epoch)
	r.onComplete()
}
