package hub

import (
	"cmp"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// samplesPerTimeout is how many times per stall timeout the reclaimer samples the connections
// while memory is short. It compares each sample with the sample one whole stall timeout
// earlier. A client therefore has that long to make progress. With an interval of one second,
// and even of five, busy machines and connections in retransmission were taken for slow
// clients (docs/decisions/0002).
const samplesPerTimeout = 4

// reclaimState holds the latest samples of a connection while memory is short. It is owned by
// reclaimLoop.
type reclaimState struct {
	samples [samplesPerTimeout + 1]progressSample // ring buffer that covers a whole stall timeout
	unacked unackedSample
}

// progressSample is the progress of a connection at one time.
type progressSample struct {
	at        time.Time // zero: not sampled
	progress  socket.Progress
	bytesRead int64
}

// unackedSample describes the retransmit queue of a connection at one time.
type unackedSample struct {
	socket.AckStats
	at time.Time // zero: not sampled
}

// reclaimLoop runs reclaim whenever a client begins to wait for memory: a client that holds
// memory and reads or writes less than Config.MinRate meanwhile is disconnected. The loop
// sleeps while no client waits, and ends when no connection reads any more.
func (h *Hub) reclaimLoop() {
	for {
		select {
		case <-h.bodies.Contended():
			h.reclaim()
		case <-h.readersDone:
			return
		}
	}
}

// minRetention is the minimum time for which the hub keeps unacknowledged messages while other
// clients wait for memory. It is longer than a live client takes to acknowledge, and longer
// than the first reconnect attempts of a client take.
const minRetention = 500 * time.Millisecond

// quickPassInterval is how often the reclaimer requests acknowledgements and looks for slow
// clients while a client waits for memory. minQuickPassDelay is the minimum pause between two
// such passes if further clients begin to wait. With many connections the pause is nine times
// the duration of the last pass.
const (
	quickPassInterval = 5 * time.Millisecond
	minQuickPassDelay = time.Millisecond
)

// evictInterval is the pause between two evictions of slow clients, in which other clients can
// use the memory that the first eviction has freed. When hundreds of clients were disconnected
// at once, the thousands of clients that waited for that memory all ran at once, and no other
// client ran for 50 ms.
const evictInterval = time.Millisecond

// reclaimer is the state of reclaim, which runs while a client waits for memory and for one
// stall timeout after that. Because of that time, a client that waits again soon finds samples
// that already show which clients are slow.
type reclaimer struct {
	hub        *Hub
	latest     int         // index of the latest progressSample
	hadWaiters bool        // a client waited for memory at the last dropUnacked
	slow       []candidate // clients found too slow, in ascending order of candidate.bytes
	conns      []*conn     // result of listConns, reused
	sizes      []int       // scratch space of requestAcks
}

// candidate is a connection that is too slow for the memory that it holds.
type candidate struct {
	*conn
	baseline progressSample // at least one stall timeout old
	bytes    int            // about how many bytes an eviction frees
}

// reclaim frees memory until no client has waited for a whole stall timeout. It first requests
// acknowledgements and drops unacknowledged messages, which the hub holds only for
// retransmission. It evicts slow clients later.
func (h *Hub) reclaim() {
	sampleTick := time.NewTicker(h.config.StallTimeout / samplesPerTimeout)
	defer sampleTick.Stop()
	dropTick := time.NewTicker(min(minRetention, h.config.StallTimeout/samplesPerTimeout))
	defer dropTick.Stop()
	quickTick := time.NewTicker(quickPassInterval)
	defer quickTick.Stop()
	evictTick := time.NewTicker(evictInterval)
	defer evictTick.Stop()
	r := &reclaimer{hub: h}
	defer r.clearSamples()
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
		case <-h.bodies.Contended():
			waiting = true
		case <-quickTick.C:
			waiting = h.bodies.HasWaiters()
		case <-evictC:
			r.evict()
		case <-sampleTick.C:
			r.sampleAll()
		case <-dropTick.C:
			r.dropUnacked()
		case <-h.readersDone:
			return
		}
		now := time.Now()
		if waiting && now.After(nextQuickPass) {
			nextQuickPass = r.quickPass()
		}
		switch {
		case waiting || h.bodies.HasWaiters():
			lastWait = now
		case now.Sub(lastWait) >= h.config.StallTimeout:
			return
		}
	}
}

// quickPass requests acknowledgements and looks for slow clients. It returns the time of the
// earliest next call.
func (r *reclaimer) quickPass() (next time.Time) {
	start := time.Now()
	r.requestAcks()
	if len(r.slow) == 0 {
		r.findSlow()
	}
	now := time.Now()
	return now.Add(max(minQuickPassDelay, 9*now.Sub(start)))
}

// listConns returns the current connections. The slice is valid until the next call.
func (r *reclaimer) listConns() []*conn {
	clear(r.conns) // drops references to closed connections
	r.conns = r.hub.conns.appendTo(r.conns[:0])
	return r.conns
}

// clearSamples deletes all samples.
func (r *reclaimer) clearSamples() {
	for _, c := range r.listConns() {
		c.reclaimState = nil
	}
}

// requestAcks sends a PING to the clients with the largest retransmit queues, which makes them
// acknowledge: those with at least half of the average size. Without a PING, a client
// acknowledges at half of its window or after a delay.
func (r *reclaimer) requestAcks() {
	r.sizes = r.sizes[:0]
	total, holders := 0, 0
	for _, c := range r.listConns() {
		size := 0
		if c.session() != nil {
			size = c.sock.AckStats().HeldBytes
		}
		r.sizes = append(r.sizes, size)
		if size > 0 {
			total += size
			holders++
		}
	}
	for i, c := range r.conns {
		if r.sizes[i] > 0 && 2*r.sizes[i]*holders >= total {
			c.session().sendPing(c)
		}
	}
}

// requestReceiverAcks sends a PING to those receivers in ids to which the client is permitted
// to send and that have unacknowledged messages.
func (c *conn) requestReceiverAcks(ids wire.IDs) {
	for id := range ids.All() {
		if c.permissions != nil && c.permissions.CanSend != nil && !c.permissions.CanSend(id) {
			continue // a client must not cause PINGs to receivers to which it cannot send
		}
		if receiver := c.hub.lookup(id); receiver.session() != nil && receiver.sock.AckStats().HeldBytes > 0 {
			receiver.session().sendPing(receiver)
		}
	}
}

// dropUnacked drops the unacknowledged messages of each client that, since the last call, has
// not acknowledged all messages that were unacknowledged at that call and has acknowledged
// fewer bytes than Config.MinRate requires. It drops them only if clients waited for memory at
// both calls.
func (r *reclaimer) dropUnacked() {
	at := time.Now()
	hadWaiters := r.hadWaiters // clients had the time since then to acknowledge
	r.hadWaiters = r.hub.bodies.HasWaiters()
	for _, c := range r.listConns() {
		if c.session() == nil {
			continue
		}
		state := c.ensureReclaimState()
		prev, current := state.unacked, unackedSample{c.sock.AckStats(), at}
		switch {
		case current.HeldBytes == 0:
			state.unacked = unackedSample{}
		case r.hadWaiters && hadWaiters && !prev.at.IsZero() && current.Acked < prev.Written &&
			float64(current.FreedBytes-prev.FreedBytes) < float64(r.hub.config.MinRate)*at.Sub(prev.at).Seconds():
			state.unacked = unackedSample{}
			c.dropUnacked()
		default:
			state.unacked = current
		}
	}
}

// sampleAll samples the progress of all connections and calls findSlow.
func (r *reclaimer) sampleAll() {
	r.latest = (r.latest + 1) % (samplesPerTimeout + 1)
	at := time.Now()
	for _, c := range r.listConns() {
		c.ensureReclaimState().samples[r.latest] = newProgressSample(c, at)
	}
	r.findSlow()
}

// findSlow compares the progress of each connection with the sample one stall timeout ago, or
// slightly more, and stores the connections that are too slow for the memory that they hold in
// r.slow.
func (r *reclaimer) findSlow() {
	clear(r.slow)
	r.slow = r.slow[:0]
	budgetContended, at := r.hub.bodies.HasQueuedWaiters(), time.Now()
	oldest := (r.latest + 1) % (samplesPerTimeout + 1)
	for _, c := range r.listConns() {
		if c.reclaimState == nil || c.reclaimState.samples[oldest].at.IsZero() {
			continue
		}
		baseline, current := c.reclaimState.samples[oldest], newProgressSample(c, at)
		if !c.delaysOthers(baseline, current, budgetContended) {
			continue
		}
		bytes := current.progress.Queued
		if _, holding := c.sock.HeldSince(); holding {
			bytes += r.hub.config.MaxBody
		}
		r.slow = append(r.slow, candidate{c, baseline, bytes})
	}
	slices.SortFunc(r.slow, func(a, b candidate) int { return cmp.Compare(a.bytes, b.bytes) })
}

func newProgressSample(c *conn, at time.Time) progressSample {
	bytesRead := c.sock.BytesRead()
	// The client has sent all these bytes, even if the hub has not read them.
	if _, holding := c.sock.HeldSince(); holding {
		bytesRead = c.sock.BytesArrived()
	}
	return progressSample{at, c.sock.Progress(), bytesRead}
}

// ensureReclaimState returns the reclaimState of c and creates it if necessary.
func (c *conn) ensureReclaimState() *reclaimState {
	if c.reclaimState == nil {
		c.reclaimState = new(reclaimState)
	}
	return c.reclaimState
}

// evict closes the largest candidate that is still too slow and still delays another client.
func (r *reclaimer) evict() {
	for i := len(r.slow) - 1; i >= 0; i-- {
		cand := r.slow[i]
		r.slow[i], r.slow = candidate{}, r.slow[:i]
		if !cand.done.IsSet() && cand.delaysOthers(cand.baseline, newProgressSample(cand.conn, time.Now()), r.hub.bodies.HasQueuedWaiters()) {
			cand.close(CloseSlow)
			return
		}
	}
}

// delaysOthers reports whether the client is too slow and holds memory for which another
// client waits, either in the budget, if budgetContended, or in the quota of a sender.
func (c *conn) delaysOthers(baseline, current progressSample, budgetContended bool) bool {
	return c.tooSlowReading(baseline, current) && (budgetContended || c.delaysSender()) || budgetContended && c.tooSlowWriting(baseline, current)
}

// tooSlowReading reports whether the hub had data for the client all the time and the client
// read less than Config.MinRate.
func (c *conn) tooSlowReading(baseline, current progressSample) bool {
	return baseline.progress.Busy && current.progress.Busy && baseline.progress.DrainCount == current.progress.DrainCount &&
		c.belowMinRate(current.progress.Sent-baseline.progress.Sent, baseline, current)
}

// tooSlowWriting reports whether the client owed the rest of a frame all the time and sent
// less than Config.MinRate. It returns false while the hub does not read because of a rate
// limit.
func (c *conn) tooSlowWriting(baseline, current progressSample) bool {
	since, holding := c.sock.HeldSince()
	return holding && !c.is(flagRateLimited) && since.Before(baseline.at) && c.belowMinRate(current.bytesRead-baseline.bytesRead, baseline, current)
}

// belowMinRate reports whether n bytes between baseline and current are less than
// Config.MinRate.
func (c *conn) belowMinRate(n int64, baseline, current progressSample) bool {
	return float64(n) < float64(c.hub.config.MinRate)*current.at.Sub(baseline.at).Seconds()
}

// reclaimUnacked drops the unacknowledged messages of a client whose own read loop waits for
// memory, because that loop does not read acknowledgements meanwhile. It does so only if
// another client waits for room in the budget or in the quota of a sender whose messages these
// are. Otherwise dropping them helps no client.
func (c *conn) reclaimUnacked() {
	if c.hub.bodies.HasQueuedWaiters() || anyWaiting(c.sock.UnackedAccounts) {
		c.dropUnacked()
	}
}

// dropUnacked drops the unacknowledged messages of the client, and the buffer for REPORT
// frames if nothing else uses it.
func (c *conn) dropUnacked() {
	c.sock.DropUnacked()
	if s := c.session(); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.releaseUnusedReportBuf()
	}
}

// delaysSender reports whether messages queued for the client are charged to a sender that
// waits for room in its quota.
func (c *conn) delaysSender() bool {
	return anyWaiting(c.sock.Accounts)
}

// anyWaiting reports whether one of the accounts waits for room in its quota.
func anyWaiting(accounts func(to []*body.Account) []*body.Account) bool {
	var buf [8]*body.Account
	for _, a := range accounts(buf[:0]) {
		if a.WaitsForQuota() {
			return true
		}
	}
	return false
}
