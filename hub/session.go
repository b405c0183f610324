package hub

import (
	"crypto/subtle"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// maxBlockedReplies is the maximum number of reads whose replies can wait for room in the
// client's own queue before the hub stops reading from the client. Each takes up to one read
// buffer of the client's memory.
const maxBlockedReplies = 64

// session is a version 2 client. It outlives the connections of the client. Its methods can be
// called concurrently. Each takes mu, under which the parts of the session agree with each other.
type session struct {
	// Static after newSession.
	hub            *Hub
	id             uint64
	subject        string         // see Permissions.Subject
	secret         string         // with which the client resumes the session
	reportOptions  outbox.Options // of REPORT
	controlOptions outbox.Options // of ACK, PING and RENEWED

	verdicts relay.Verdicts // of the client

	// Owned by the read loop of conn, or of the connection that is resuming the session.
	lastSeq  uint64          // of the last SEND
	attempts outbox.Attempts // to write the first frame that the client does not have

	// mu guards the fields below.
	mu             sync.Mutex
	conn           *conn // the current connection, or the last one
	sends          relay.Window
	acks           ackSchedule
	reports        reportWindow
	pingPending    bool          // a PING waits to be written
	renewedPending bool          // a RENEWED waits to be written
	renewalAt      int64         // when the last renewal began, in ns of uptime; 0: never
	blockedReplies int           // reads whose replies wait for room in the client's own queue
	readerSignal   chan struct{} // capacity 1: the read loop may have room; nil until first used
}

func newSession(c *conn) *session {
	s := &session{hub: c.hub, id: c.id.Load(), subject: c.subject(), conn: c}
	s.secret = c.hub.secrets().create(s.id, s.subject)
	s.reportOptions = outbox.Options{Events: reportEvents{s}, Overflow: outbox.OverflowForce}
	s.controlOptions = outbox.Options{Events: controlEvents{s}, Overflow: outbox.OverflowPriority}
	return s
}

// The frames that are sent with session.controlOptions, as Batch.Receiver.
const (
	controlAck = iota
	controlPing
	controlRenewed
)

// matchesSecret reports whether secret is that of the session, in constant time.
func (s *session) matchesSecret(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(s.secret), []byte(secret)) == 1
}

// moveTo makes c the connection of the session, which c has resumed. The client is to get an
// ACK for what was queued since its WELCOME was written.
func (s *session) moveTo(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
	s.acks.unacked++
}

// countOmitted counts messages that the client does not get although it has resumed its
// session.
func (s *session) countOmitted(omitted outbox.Omitted) {
	counters := &s.hub.counters
	counters.recordDrop(DropGone, omitted.Unreachable)
	counters.recordDrop(DropTooLarge, omitted.TooLarge)
	if omitted.Unreachable > 0 {
		s.hub.config.Logger.Info("message dropped", "client", s.id, "cause", "each connection that carried it was lost")
	}
}

// tryReserve reports whether the credit has room for one more SEND of that cost. With report
// it also needs room for one more pending report, and takes it.
func (s *session) tryReserve(cost int, report bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sends.HasRoom(cost, s.hub.config.Credit) && (!report || s.reports.reserve(s.hub.config.MaxReports))
}

// onSent adds a batch of SENDs that was offered. onQueued must be called when none of them is
// blocked any more.
func (s *session) onSent(lastSeq uint64, cost relay.Cost) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sends.Add(lastSeq, cost)
}

// onQueued records that all SENDs of the batch that ends with lastSeq are queued, or have
// failed.
func (s *session) onQueued(lastSeq uint64) {
	s.mu.Lock()
	s.acks.unacked += s.sends.OnQueued(lastSeq)
	s.signalReader()
	s.unlockAndAck(s.acks.next(s.ackThreshold()))
}

// loadQueuedSeq returns the seq up to which all SENDs are queued.
func (s *session) loadQueuedSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sends.QueuedSeq()
}

// ackThreshold returns the cost of queued SENDs at which an ACK is sent unrequested, in
// bytes.
func (s *session) ackThreshold() int { return s.hub.config.Credit / 4 }

// sendAck sends an ACK if SENDs were queued since the last one.
func (s *session) sendAck() {
	s.mu.Lock()
	s.unlockAndAck(s.acks.nextNow())
}

// ackAll sends an ACK for all SENDs that are queued. If more are in flight, the next ACK
// follows as soon as one of them is queued: the client that asks may be blocked by exactly
// that.
func (s *session) ackAll() {
	s.mu.Lock()
	due := s.acks.nextNow()
	s.acks.requested = s.acks.requested || s.sends.Bytes() > 0
	s.unlockAndAck(due)
}

// onAckWritten records that an ACK was written or lost.
func (s *session) onAckWritten() {
	s.mu.Lock()
	s.acks.onWritten(s.sends.Bytes() > 0)
	s.unlockAndAck(s.acks.next(s.ackThreshold()))
}

// unlockAndAck releases mu, and then sends an ACK if one is due.
func (s *session) unlockAndAck(due bool) {
	seq, c := s.sends.QueuedSeq(), s.conn
	s.mu.Unlock()
	if due && !c.sendFrameTagged(wire.AppendAck(nil, seq), &s.controlOptions, controlAck) {
		s.onAckWritten()
	}
}

// sendPing sends a PING, to which the client answers. At most one PING waits to be written.
func (s *session) sendPing(c *conn) {
	s.mu.Lock()
	send := !s.pingPending
	s.pingPending = true
	s.mu.Unlock()
	if send && !c.sendFrameTagged(wire.AppendPing(nil, uint64(time.Now().UnixMicro())), &s.controlOptions, controlPing) {
		s.onPingWritten()
	}
}

// onPingWritten records that a PING was written or lost.
func (s *session) onPingWritten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pingPending = false
}

// startRenewal reports whether the client can renew its token now, given the uptime of the hub:
// not within minRenewalInterval of the last renewal, nor while its RENEWED is not written.
func (s *session) startRenewal(uptime time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := int64(uptime) + 1 // never 0
	if s.renewedPending || s.renewalAt > 0 && now-s.renewalAt < int64(minRenewalInterval) {
		return false
	}
	s.renewalAt = now
	return true
}

// sendRenewed sends a RENEWED. startRenewal must have returned true.
func (s *session) sendRenewed(c *conn, r *wire.Renewed) {
	s.mu.Lock()
	s.renewedPending = true
	s.mu.Unlock()
	if !c.sendFrameTagged(wire.AppendRenewed(nil, r), &s.controlOptions, controlRenewed) {
		s.onRenewedWritten()
	}
}

// onRenewedWritten records that a RENEWED was written or lost.
func (s *session) onRenewedWritten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewedPending = false
}

// addBlockedReplies adds n, which is 1 or -1, to the reads whose replies are blocked.
func (s *session) addBlockedReplies(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blockedReplies += n
	s.signalReader()
}

// canReadRequests reports whether further requests can be read.
func (s *session) canReadRequests() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blockedReplies < maxBlockedReplies
}

// readerSignalChan returns the channel that receives when the read loop may have room.
func (s *session) readerSignalChan() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readerSignal == nil {
		s.readerSignal = make(chan struct{}, 1)
	}
	return s.readerSignal
}

// releaseSpare releases memory that the session keeps for later messages. The read loop calls it
// when the client may have become idle.
func (s *session) releaseSpare() {
	s.verdicts.ReleaseSpare()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sends.ReleaseSpare()
	s.readerSignal = nil // only the read loop waits for it, and not now
}

// signalReader wakes the read loop if it waits for room. It is called with mu held.
func (s *session) signalReader() {
	select { // a send on a nil channel blocks
	case s.readerSignal <- struct{}{}:
	default:
	}
}

// sendReports queues n REPORTs for the client on its current connection.
func (s *session) sendReports(frames []byte, n int) {
	s.mu.Lock()
	c := s.conn
	s.reports.count(frames)
	batch := s.reports.write(c.account, frames)
	s.mu.Unlock()
	batch.Frames, batch.Reliable, batch.Options = n, true, &s.reportOptions
	if c.offerAndFlush(&batch) != outbox.Queued {
		s.onReportsWritten(n)
	}
}

// fates returns the fates that the REPORTs of the session have said so far.
func (s *session) fates() map[wire.Fate]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make(map[wire.Fate]uint64)
	if s.reports.fates == nil {
		return counts
	}
	for fate, n := range s.reports.fates {
		if n > 0 {
			counts[wire.Fate(fate)] = n
		}
	}
	return counts
}

// onReportsWritten records that n REPORTs were written or lost, or are not needed.
func (s *session) onReportsWritten(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports.onWritten(n)
	s.signalReader()
}

// dropReportBuf releases the report buffer although the outbox, which has lost REPORTs because
// the session has ended, still refers to it.
func (s *session) dropReportBuf() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports.releaseBuf()
}

// releaseUnusedReportBuf releases the report buffer when no REPORT in it is needed any more.
func (s *session) releaseUnusedReportBuf() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports.releaseUnusedBuf()
}

// reportEvents handles the events of REPORTs.
type reportEvents struct{ session *session }

// HandleEvent implements outbox.EventHandler.
func (h reportEvents) HandleEvent(_ int, event outbox.Event, _, frames int) {
	switch s := h.session; event {
	case outbox.EventWritten:
		s.onReportsWritten(frames)
	case outbox.EventLost:
		s.onReportsWritten(frames)
		s.dropReportBuf()
	case outbox.EventAcked:
		s.releaseUnusedReportBuf()
	case outbox.EventUnacked:
		s.dropReportBuf()
	}
}

// controlEvents handles the events of ACKs, PINGs and RENEWEDs.
type controlEvents struct{ session *session }

// HandleEvent implements outbox.EventHandler.
func (h controlEvents) HandleEvent(receiver int, event outbox.Event, _, _ int) {
	switch {
	case event != outbox.EventWritten && event != outbox.EventLost:
	case receiver == controlAck:
		h.session.onAckWritten()
	case receiver == controlRenewed:
		h.session.onRenewedWritten()
	default:
		h.session.onPingWritten()
	}
}
