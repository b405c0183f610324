package reclaim

import (
	"cmp"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// samplesPerTimeout is how many times per stall timeout the connections are sampled while memory
// is short. Each sample is compared with the sample one whole stall timeout earlier. A client
// therefore has that long to make progress. With an interval of one second, and even of five,
// busy machines and connections in retransmission were taken for slow clients
// (docs/decisions/0002).
const samplesPerTimeout = 4

// evictInterval is the pause between two evictions of slow clients, in which other clients can
// use the memory that the first eviction has freed. When hundreds of clients were disconnected
// at once, the thousands of clients that waited for that memory all ran at once, and no other
// client ran for 50 ms.
const evictInterval = time.Millisecond

// Holder is a connection that holds memory: of messages queued for its client, or of a frame of
// which a part has arrived.
type Holder interface {
	// Sample describes the connection at this moment.
	Sample() Sample

	// DelaysSender reports whether messages queued for the client are charged to a sender that
	// waits for room in its quota.
	DelaysSender() bool

	// Evict closes the connection.
	Evict()
}

// Sample describes the memory that a connection holds and its progress.
type Sample struct {
	Closed      bool
	RateLimited bool // the hub does not read because of a rate limit
	Written     outbox.Progress
	BytesRead   int64     // that the client has sent, as far as known
	HeldSince   time.Time // since when the connection holds a part of a frame; zero: it holds none
}

// progressSample is the progress of a connection at one time.
type progressSample struct {
	at        time.Time // zero: not sampled
	written   outbox.Progress
	bytesRead int64
}

// candidate is a connection that is too slow for the memory that it holds.
type candidate[C Conn] struct {
	conn     C
	baseline progressSample // at least one stall timeout old
	bytes    int            // about how many bytes an eviction frees
}

// sampleAll samples the progress of all connections and calls findSlow.
func (r *reclaimer[C]) sampleAll() {
	r.latest = (r.latest + 1) % (samplesPerTimeout + 1)
	at := time.Now()
	for _, c := range r.listConns() {
		state, s := c.ReclaimState(), c.Sample()
		state.ensure()
		state.progress[r.latest] = progressSample{at, s.Written, s.BytesRead}
	}
	r.findSlow()
}

// findSlow compares the progress of each connection with the sample one stall timeout ago, or
// slightly more, and stores the connections that are too slow for the memory that they hold in
// r.slow.
func (r *reclaimer[C]) findSlow() {
	clear(r.slow)
	r.slow = r.slow[:0]
	budgetContended, at := r.Budget.HasQueuedWaiters(), time.Now()
	oldest := (r.latest + 1) % (samplesPerTimeout + 1)
	for _, c := range r.listConns() {
		state := c.ReclaimState()
		if state.samples == nil || state.progress[oldest].at.IsZero() {
			continue
		}
		cand, current := candidate[C]{conn: c, baseline: state.progress[oldest]}, c.Sample()
		if !r.delaysOthers(&cand, &current, at, budgetContended) {
			continue
		}
		cand.bytes = current.Written.Queued
		if !current.HeldSince.IsZero() {
			cand.bytes += r.MaxBody
		}
		r.slow = append(r.slow, cand)
	}
	slices.SortFunc(r.slow, func(a, b candidate[C]) int { return cmp.Compare(a.bytes, b.bytes) })
}

// evict closes the largest candidate that is still too slow and still delays another client.
func (r *reclaimer[C]) evict() {
	for i := len(r.slow) - 1; i >= 0; i-- {
		cand := r.slow[i]
		r.slow[i], r.slow = candidate[C]{}, r.slow[:i]
		current := cand.conn.Sample()
		if !current.Closed && r.delaysOthers(&cand, &current, time.Now(), r.Budget.HasQueuedWaiters()) {
			cand.conn.Evict()
			return
		}
	}
}

// delaysOthers reports whether the client is too slow and holds memory for which another
// client waits, either in the budget, if budgetContended, or in the quota of a sender.
func (r *reclaimer[C]) delaysOthers(cand *candidate[C], current *Sample, at time.Time, budgetContended bool) bool {
	elapsed := at.Sub(cand.baseline.at)
	return r.tooSlowReading(&cand.baseline, current, elapsed) && (budgetContended || cand.conn.DelaysSender()) ||
		budgetContended && r.tooSlowWriting(&cand.baseline, current, elapsed)
}

// tooSlowReading reports whether the hub had data for the client all the time and the client
// read less than MinRate.
func (r *reclaimer[C]) tooSlowReading(baseline *progressSample, current *Sample, elapsed time.Duration) bool {
	before, now := &baseline.written, &current.Written
	return before.Busy && now.Busy && before.DrainCount == now.DrainCount && r.belowMinRate(now.Sent-before.Sent, elapsed)
}

// tooSlowWriting reports whether the client owed the rest of a frame all the time and sent
// less than MinRate. It returns false while the hub does not read because of a rate limit.
func (r *reclaimer[C]) tooSlowWriting(baseline *progressSample, current *Sample, elapsed time.Duration) bool {
	return !current.HeldSince.IsZero() && !current.RateLimited && current.HeldSince.Before(baseline.at) &&
		r.belowMinRate(current.BytesRead-baseline.bytesRead, elapsed)
}
