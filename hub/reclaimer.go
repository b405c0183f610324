package hub

import (
	"cmp"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// samplesPerTimeout is how often per stall timeout the sessions are looked at while memory is
// short. Each look is compared with the one a whole stall timeout before it: a
// client has that long to earn what it holds. Over one second, and even over
// five, machines that were busy elsewhere and connections in retransmission were
// taken for slow clients (docs/decisions/0002).
const samplesPerTimeout = 4

// reclaimState is what the last looks have seen of a session, while memory is short.
type reclaimState struct {
	samples [samplesPerTimeout + 1]progressSample // of the looks of a whole stall timeout, by turns
	unacked unackedSample
}

// progressSample is what a session had moved at one look.
type progressSample struct {
	at        time.Time // zero: nobody has looked
	progress  socket.Progress
	bytesRead int64
}

// unackedSample is what was kept for a client at one look.
type unackedSample struct {
	socket.AckStats
	at time.Time // zero: nobody has looked
}

// reclaimLoop sees to it that memory which others wait for is earned: while anybody
// waits for some, a client that holds some and moves less than Config.MinRate is
// disconnected. It sleeps while nobody waits, and ends when nobody reads any more.
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

// minRetention is for how long what was written to a client is kept although others wait
// for the memory: longer than one that is alive takes to say that it has had it, and
// than one that has lost its connection takes to come back at the first attempts.
const minRetention = 500 * time.Millisecond

// quickPassInterval is how often clients are asked what they have received, and the slow are looked for, while somebody waits for
// memory, and minQuickPassDelay for how long they are not when they were, if somebody else begins to wait. Where they are
// many, the pause is nine times what that took.
const (
	quickPassInterval = 5 * time.Millisecond
	minQuickPassDelay = time.Millisecond
)

// evictInterval is how long the others have to make something of what one client has given up
// that was too slow for it. When hundreds were disconnected at one time, the thousands who waited for just
// that memory all ran at once: for 50 ms nobody else did.
const evictInterval = time.Millisecond

// reclaimer is what the hub does while somebody waits for memory, and for a stall timeout after that: who waits again then is not
// to wait until it is known anew who is slow.
type reclaimer struct {
	hub        *Hub
	latest     int         // which of the samples is of the last look
	hadWaiters bool        // somebody waited when it was looked what could be given up
	slow       []candidate // those who were found too slow, the largest last
	conns      []*conn     // of this moment
	sizes      []int       // scratch space of requestAcks
}

// candidate is a session that is too slow for what it holds.
type candidate struct {
	*conn
	baseline progressSample // how it stood a stall timeout ago, at least
	bytes    int            // what is free when it is gone, about
}

// reclaim looks at all sessions for as long as somebody waits. What is kept for
// those who may come back is what it asks about at once, and gives up first.
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

// quickPass does what can be done at once. It returns when it may be called again.
func (r *reclaimer) quickPass() (next time.Time) {
	start := time.Now()
	r.requestAcks()
	if len(r.slow) == 0 {
		r.findSlow()
	}
	now := time.Now()
	return now.Add(max(minQuickPassDelay, 9*now.Sub(start)))
}

// listConns returns the sessions of this moment, which are good until it is called again.
func (r *reclaimer) listConns() []*conn {
	clear(r.conns) // those who have ended meanwhile
	r.conns = r.hub.conns.appendTo(r.conns[:0])
	return r.conns
}

// clearSamples forgets what was seen.
func (r *reclaimer) clearSamples() {
	for _, c := range r.listConns() {
		c.reclaimState = nil
	}
}

// requestAcks has those clients for which most is kept say what they have received, by a PING: those with at
// least half of what is kept for one on average. Unasked they say so at half of their window, or some
// time later.
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

// requestReceiverAcks has those of them to whom the client may send say what they have received.
func (c *conn) requestReceiverAcks(ids wire.IDs) {
	for id := range ids.All() {
		if c.permissions != nil && c.permissions.CanSend != nil && !c.permissions.CanSend(id) {
			continue // nor may it have the hub disturb them
		}
		if receiver := c.hub.lookup(id); receiver.session() != nil && receiver.sock.AckStats().HeldBytes > 0 {
			receiver.session().sendPing(receiver)
		}
	}
}

// dropUnacked gives up what is kept for clients that have not acknowledged what was kept when
// they were looked at last, nor as much as they must, if somebody has waited since.
func (r *reclaimer) dropUnacked() {
	at := time.Now()
	hadWaiters := r.hadWaiters // so they had the time to say something
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

// sampleAll notes how every session stands, and judges them.
func (r *reclaimer) sampleAll() {
	r.latest = (r.latest + 1) % (samplesPerTimeout + 1)
	at := time.Now()
	for _, c := range r.listConns() {
		c.ensureReclaimState().samples[r.latest] = newProgressSample(c, at)
	}
	r.findSlow()
}

// findSlow compares how every session stands with how it stood a whole stall timeout before, or a little more, and finds
// those that are too slow for the memory that they hold.
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
	if _, holding := c.sock.HeldSince(); holding { // if the hub is slow, that is not the client's fault
		bytesRead = c.sock.BytesArrived()
	}
	return progressSample{at, c.sock.Progress(), bytesRead}
}

// ensureReclaimState returns what was seen of the session.
func (c *conn) ensureReclaimState() *reclaimState {
	if c.reclaimState == nil {
		c.reclaimState = new(reclaimState)
	}
	return c.reclaimState
}

// evict ends the largest of those who are too slow, if it still is and what it holds still delays anybody.
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

// delaysOthers reports whether the client is too slow for memory that somebody waits for: in the budget, which is short then, or
// in a share.
func (c *conn) delaysOthers(baseline, current progressSample, budgetContended bool) bool {
	return c.tooSlowReading(baseline, current) && (budgetContended || c.delaysSender()) || budgetContended && c.tooSlowWriting(baseline, current)
}

// tooSlowReading reports whether the client had something to take all the time,
// and took less than it must.
func (c *conn) tooSlowReading(baseline, current progressSample) bool {
	return baseline.progress.Busy && current.progress.Busy && baseline.progress.DrainCount == current.progress.DrainCount &&
		c.belowMinRate(current.progress.Sent-baseline.progress.Sent, baseline, current)
}

// tooSlowWriting does so for the rest of a frame that the client owes, unless it is the hub that does not read it.
func (c *conn) tooSlowWriting(baseline, current progressSample) bool {
	since, holding := c.sock.HeldSince()
	return holding && !c.is(flagRateLimited) && since.Before(baseline.at) && c.belowMinRate(current.bytesRead-baseline.bytesRead, baseline, current)
}

func (c *conn) belowMinRate(n int64, baseline, current progressSample) bool {
	return float64(n) < float64(c.hub.config.MinRate)*current.at.Sub(baseline.at).Seconds()
}

// reclaimUnacked gives up what is kept for the client, whose messages wait for memory, if others wait for
// just that: while it waits nobody hears what it acknowledges. What is charged to those who wait for
// nothing helps nobody.
func (c *conn) reclaimUnacked() {
	if c.hub.bodies.HasQueuedWaiters() || anyWaiting(c.sock.UnackedAccounts) {
		c.dropUnacked()
	}
}

// dropUnacked gives up what is kept for the client, and the memory of REPORTs of which nothing else is needed.
func (c *conn) dropUnacked() {
	c.sock.DropUnacked()
	if s := c.session(); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.releaseUnusedReportBuf()
	}
}

// delaysSender reports whether something queued for the client belongs to a
// sender that waits for room in its share.
func (c *conn) delaysSender() bool {
	return anyWaiting(c.sock.Accounts)
}

// anyWaiting reports whether one of the accounts waits for room in its share.
func anyWaiting(accounts func(to []*body.Account) []*body.Account) bool {
	var buf [8]*body.Account
	for _, a := range accounts(buf[:0]) {
		if a.WaitsForQuota() {
			return true
		}
	}
	return false
}
