package client

import (
	"cmp"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
)

// detach is called when the connection has ended.
func (q *sendQueue) detach() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn != nil {
		q.lastConnDuration = time.Since(q.conn.openedAt)
	}
	q.conn = nil
}

// resume continues on cn, which has resumed the session. The hub has all messages up to
// received and will report on them; later ones are sent again. If the first of these has failed
// on too many connections, resume gives it up and returns its seq and its call: see
// ErrUndeliverable. Otherwise undeliverable is 0.
func (q *sendQueue) resume(cn *conn, limits sendLimits, received uint64) (undeliverable uint64, waiter *call) {
	q.mu.Lock()
	q.setLimits(limits)
	s, next, firstSeq := &q.sends, q.sends.next, uint64(0)
	for ; s.next > 0 && s.all[s.next-1].seq > received; s.next-- {
		q.window.onUnsent(&s.all[s.next-1])
	}
	first := s.firstUnsent()
	if first != nil {
		firstSeq = first.seq
	}
	var free *body.Buffer
	if begun := s.next < next; q.attempts.RecordFailure(firstSeq, begun, q.lastConnDuration) {
		if undeliverable, waiter, free = firstSeq, q.calls.bySeq[firstSeq], first.buffer; waiter != nil {
			q.calls.drop(firstSeq, waiter)
		}
		s.remove(s.next, s.next+1)
	}
	q.conn = cn
	q.mu.Unlock()
	if free != nil {
		free.Release()
	}
	signal(q.notFull) // the cost of the queue can be lower now
	q.pumpAndProbe()
	return undeliverable, waiter
}

// setLimits sets the limits of the hub and recomputes the costs. It is called with mu held.
func (q *sendQueue) setLimits(limits sendLimits) {
	costChanged := limits.receiverCost != q.window.limits.receiverCost
	q.window.setLimits(limits)
	if costChanged {
		q.window.inFlight = q.sends.recomputeCosts(&limits)
		q.calls.recomputeCosts(&limits)
	}
}

// restart continues on cn with a new session. It returns what is not sent again: the calls, and
// the number of messages without a report. If newHub is true, messages to ids that the last hub
// had assigned are not sent either.
func (q *sendQueue) restart(cn *conn, limits sendLimits, newHub bool) (failed []*call, unconfirmed int) {
	q.mu.Lock()
	q.grantedIDsValid = q.window.limits.grantsIDs && limits.grantsIDs
	q.setLimits(limits)
	var free []*body.Buffer
	if q.resend {
		free = q.requeue()
	} else {
		failed, unconfirmed, free = q.dropInFlight()
	}
	q.sends.next, q.window.inFlight, q.window.pendingReports = 0, 0, 0
	if newHub {
		q.hubGeneration++
		f, n, b := q.dropAssigned()
		failed, unconfirmed, free = append(failed, f...), unconfirmed+n, append(free, b...)
	}
	q.attempts = outbox.Attempts{}
	q.conn = cn
	q.mu.Unlock()
	for _, b := range free {
		b.Release()
	}
	signal(q.notFull)
	q.pumpAndProbe()
	return failed, unconfirmed
}

// requeue puts messages that were in flight, and retained messages, back into the queue. It
// returns buffers to release. It is called with mu held.
func (q *sendQueue) requeue() (free []*body.Buffer) {
	var requeued pendingSends
	for _, c := range q.calls.bySeq {
		if p := q.calls.takeRetained(c); p.buffer != nil {
			p.maybeSent, c.maybeSent = true, true
			requeued.add(p)
		}
	}
	for i, p := range q.sends.all {
		inFlight := i < q.sends.next
		if inFlight && p.wantsReport && q.calls.bySeq[p.seq] == nil { // the report came before the ACK
			free = append(free, p.buffer)
			continue
		}
		p.maybeSent = p.maybeSent || inFlight
		if c := q.calls.bySeq[p.seq]; c != nil {
			c.maybeSent = p.maybeSent
		}
		requeued.add(p)
	}
	slices.SortFunc(requeued.all, func(a, b pendingSend) int { return cmp.Compare(a.seq, b.seq) })
	requeued.removals = q.sends.removals
	q.sends = requeued
	return free
}

// dropInFlight drops the messages in flight, and the calls whose message is not in the queue
// any more. It returns buffers to release. It is called with mu held.
func (q *sendQueue) dropInFlight() (failed []*call, unconfirmed int, free []*body.Buffer) {
	for _, p := range q.sends.inFlight() {
		free = append(free, p.buffer)
		if !p.wantsReport {
			unconfirmed++
		}
	}
	q.sends.remove(0, q.sends.next)
	failed = q.calls.dropIf(func(seq uint64, c *call) bool {
		_, queued := q.sends.find(seq)
		return !queued && c.fate == 0 // otherwise the timer is about to report
	})
	return failed, unconfirmed, free
}

// dropAssigned drops queued messages to ids that the last hub had assigned. It returns buffers
// to release. It is called with mu held, when no message is in flight.
func (q *sendQueue) dropAssigned() (failed []*call, unconfirmed int, free []*body.Buffer) {
	q.sends.removeIf(func(p *pendingSend) bool {
		if !p.namesAssigned(q.grantedIDsValid) {
			return false
		}
		free = append(free, p.buffer)
		c := q.calls.bySeq[p.seq]
		switch {
		case !p.wantsReport:
			unconfirmed++
		case c != nil && c.fate == 0: // otherwise the timer reports, or has reported
			q.calls.drop(p.seq, c)
			failed = append(failed, c)
		}
		return true
	})
	return failed, unconfirmed, free
}
