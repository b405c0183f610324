package hub

import (
	"math/rand/v2"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// latencySampleRate is of how many reads one has the deliveries timed that it leads to: so few
// that it does not show, and enough for a histogram of a hub that is hardly used.
const latencySampleRate = 256

// latencySample times the deliveries of one read.
type latencySample struct {
	readAt  time.Time
	observe func(time.Duration)
}

// newLatencySample returns one for a read that has just come in, mostly nil: then
// nothing is timed.
func newLatencySample(observe func(time.Duration)) *latencySample {
	if observe == nil || rand.Uint32()%latencySampleRate != 0 {
		return nil
	}
	return &latencySample{readAt: time.Now(), observe: observe}
}

// observers see how a run fares that was drawn by lot, beside whoever follows it.
type observers struct {
	latency *latencySample      // nil: none
	traces  *traceRecorder      // nil: none
	next    socket.EventHandler // who follows it; nil: nobody
}

// chain returns the tracker that tells them and then next. Without any it is next.
func (o observers) chain(next socket.EventHandler) socket.EventHandler {
	if o.latency == nil && o.traces == nil {
		return next
	}
	chained := o // only this one is allocated, and not o for each run
	chained.next = next
	return &chained
}

// HandleEvent tells all of them: see socket.EventHandler.
func (o *observers) HandleEvent(receiver int, event socket.Event, first, frames int) {
	if o.latency != nil && event == socket.EventWritten {
		o.latency.observe(time.Since(o.latency.readAt))
	}
	if o.traces != nil {
		o.traces.handleEvent(receiver, event, first, frames)
	}
	if o.next != nil {
		o.next.HandleEvent(receiver, event, first, frames)
	}
}

// recorders are those who want to know how a run fares with each receiver.
type recorders struct {
	tracker *deliveryTracker // nil: its sender does not
	traces  *traceRecorder   // nil: none of its messages is traced
}

// newRecorders returns those of a piece that is about to be offered, which then tells them what
// becomes of it later.
func (rb *readBatch) newRecorders(ids []uint64, dests []*conn, batch *socket.Batch) (r recorders) {
	if rb.conn.hub.config.OnTrace != nil {
		r.traces = rb.newTraceRecorder(ids, batch)
	}
	obs := observers{latency: rb.latency, traces: r.traces}
	if rb.options.needsTracking() {
		r.tracker = rb.newDeliveryTracker(rb.firstSeq, batch.Frames, dests, obs)
		batch.Options = &r.tracker.options
	} else if handler := obs.chain(nil); handler != nil {
		batch.Options = &socket.Options{Events: handler}
	}
	return r
}

// recordDrop tells them that nobody gets it at one place.
func (r *recorders) recordDrop(receiver int, fate wire.Fate, first, frames int) {
	if r.tracker != nil {
		r.tracker.decide(receiver, first, frames, fate)
	}
	if r.traces != nil {
		r.traces.record(receiver, fate, first, frames)
	}
}

// isV2 reports whether a receiver gets it in version 2. A batch has decided that before anything was offered.
func (r *recorders) isV2(index int, dest *conn) bool {
	if r.tracker != nil {
		return !r.tracker.v1.has(index)
	}
	return dest.v2.Load() != nil
}

// beforeOffer tells them that it is about to be offered to the receiver at one place, or that there is
// none.
func (r *recorders) beforeOffer(receiver int) {
	if r.tracker != nil {
		r.tracker.offeredTo.Store(int32(receiver + 1))
	}
}

// onEnqueue tells them what the outbox of a receiver did with it.
func (r *recorders) onEnqueue(b *socket.Batch, outcome socket.Outcome) {
	if r.tracker != nil {
		r.tracker.onEnqueue(b, outcome)
	}
	if r.traces != nil {
		r.traces.onEnqueue(b, outcome)
	}
}
