package simulation

import (
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/stats"
)

// receiver checks the messages of one client.
type receiver struct {
	// Static before the client connects.
	epoch      time.Time
	oneIn      int    // latency is measured for one message in oneIn
	onComplete func() // called once, when no message is missing

	acksMessages bool // acknowledge each message, because its sender waits for the verdict

	onNewID           func(id uint64)      // called when the hub has given the client another id
	onReconnectFailed func(e client.Event) // called when the client failed to reconnect

	// Owned by the reading goroutine of the client, and by the report after the client is closed.
	checker  *checker
	latency  *stats.Latency
	complete bool
	// lastArrival is the time of the last latency sample or of the completion of the run, since
	// the epoch.
	lastArrival time.Duration
}

// handleMessage checks a message and acknowledges it if acksMessages is set. The client's
// reading goroutine calls it, therefore every message that has arrived is counted, even when
// the run ends early.
func (r *receiver) handleMessage(m client.Message) {
	r.checkBody(m.Body)
	r.checkComplete()
	if r.acksMessages {
		m.Ack()
	}
}

// handleEvent handles an event of the client's connection.
func (r *receiver) handleEvent(e client.Event) {
	switch e.Kind {
	case client.EventNewID, client.EventKeptID: // messages may be lost in both cases
		r.onNewID(e.ID)
	case client.EventReconnectFailed:
		r.onReconnectFailed(e)
	}
}

// checkBody checks one body and records its latency if the body is a sample.
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

// checkComplete calls onComplete when the last missing message has arrived.
func (r *receiver) checkComplete() {
	if r.checker.remaining > 0 || r.complete {
		return
	}
	r.complete = true
	r.lastArrival = time.Since(r.epoch)
	r.onComplete()
}
