package relay

import (
	"math/rand/v2"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// latencySampleRate is the average number of reads for each whose deliveries are timed: so few that
// the cost does not show, and enough for a histogram of a hub with little traffic.
const latencySampleRate = 256

// latencySample times the deliveries of one read.
type latencySample struct {
	readAt  time.Time
	observe func(time.Duration)
}

// newLatencySample returns a sample for messages that have just been read. Mostly it returns nil,
// and their deliveries are not timed.
func newLatencySample(observe func(time.Duration)) *latencySample {
	if observe == nil || rand.Uint32()%latencySampleRate != 0 {
		return nil
	}
	return &latencySample{readAt: time.Now(), observe: observe}
}

// observers observe the events of a batch, beside its Tracker.
type observers struct {
	latency *latencySample      // nil: the batch is not timed
	traces  *traceRecorder      // nil: no message is traced
	next    outbox.EventHandler // gets each event last; nil: none
}

// chain returns an event handler that calls the observers and then next. Without observers it
// is next.
func (o *observers) chain(next outbox.EventHandler) outbox.EventHandler {
	if o.latency == nil && o.traces == nil {
		return next
	}
	chained := *o // allocated only here, and not for each batch
	chained.next = next
	return &chained
}

// HandleEvent passes an event to all of them: see outbox.EventHandler.
func (o *observers) HandleEvent(receiver int, event outbox.Event, first, frames int) {
	if o.latency != nil && event == outbox.EventWritten {
		o.latency.observe(time.Since(o.latency.readAt))
	}
	if o.traces != nil {
		o.traces.handleEvent(receiver, event, first, frames)
	}
	if o.next != nil {
		o.next.HandleEvent(receiver, event, first, frames)
	}
}

// recorders record what happens to a batch at each receiver.
type recorders struct {
	tracker *Tracker       // nil: the batch is not tracked
	traces  *traceRecorder // nil: no message is traced
}

// newRecorders returns the recorders of a batch that was read at readAt and is about to be offered.
// It sets the options of the batch by which its later events reach them.
func (r *Relay) newRecorders(m *Messages, readAt time.Time, latency *latencySample, ids []uint64, dests []Destination, batch *outbox.Batch) (recs recorders) {
	if r.traces.config.OnTrace != nil {
		recs.traces = r.traces.newRecorder(m.Origin.ID(), readAt, ids, batch)
	}
	obs := observers{latency: latency, traces: recs.traces}
	if m.Options.Tracked() {
		recs.tracker = r.newTracker(m, batch.Frames, dests)
		recs.tracker.options.Events = obs.chain(recs.tracker)
		batch.Options = &recs.tracker.options
	} else if handler := obs.chain(nil); handler != nil {
		batch.Options = &outbox.Options{Events: handler}
	}
	return recs
}

// observed reports whether the outcome of each offer is recorded.
func (r *recorders) observed() bool {
	return r.tracker != nil || r.traces != nil
}

// recordFate records the fate of frames that are not offered to one receiver.
func (r *recorders) recordFate(receiver int, fate wire.Fate, first, frames int) {
	if r.tracker != nil {
		r.tracker.decide(receiver, first, frames, fate)
	}
	if r.traces != nil {
		r.traces.record(receiver, fate, first, frames)
	}
}

// onEnqueue records what the outbox of a receiver did with frames of the batch.
func (r *recorders) onEnqueue(b *outbox.Batch, outcome outbox.Outcome) {
	if r.tracker != nil {
		r.tracker.onEnqueue(b, outcome)
	}
	if r.traces != nil {
		r.traces.onEnqueue(b, outcome)
	}
}
