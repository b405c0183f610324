package hub

import (
	"crypto/rand"
	"crypto/subtle"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// session is a version 2 client. It outlives the connections of the client.
type session struct {
	// Static after newSession.
	hub            *Hub
	id             uint64
	subject        string         // see Permissions.Subject
	secret         string         // with which the client resumes the session
	reportOptions  outbox.Options // of REPORT
	controlOptions outbox.Options // of ACK and PING

	// Owned by the read loop of conn, or of the connection that is resuming the session.
	lastSeq  uint64          // of the last SEND
	attempts outbox.Attempts // to write the first frame that the client does not have

	// mu guards the fields below.
	mu                sync.Mutex
	conn              *conn // the current connection, or the last one
	takeoverRequested bool  // conn was asked to detach
	resuming          bool  // a connection is resuming the session
	windowClosed      bool  // the resume window is over

	inFlight       []inFlightSends
	bytesInFlight  int           // cost of inFlight
	unackedBytes   int           // cost of the SENDs that were queued since the last ACK
	ackPending     bool          // an ACK waits to be written: no other is needed
	ackRequested   bool          // the next ACK does not wait for ackThreshold
	pingPending    bool          // a PING waits to be written
	queuedSeq      uint64        // seq up to which all SENDs are queued
	pendingReports int           // SENDs whose REPORT is not written
	blockedReplies int           // reads whose replies wait for room in the client's own queue
	readerSignal   chan struct{} // capacity 1: a count above went down; nil until first used
	reportBuf      *body.Buffer  // where REPORTs are written, while one in it is needed
	reportBufUsed  int           // in bytes
	verdictWaiters map[verdictKey]*deliveryTracker
}

// inFlightSends is a batch of SENDs that was offered to its receivers.
type inFlightSends struct {
	lastSeq uint64 // of the last SEND
	cost    sendCost
	queued  bool // for all receivers, or failed
}

// receiverCost is the credit that each receiver of a SEND takes, in bytes
// (docs/decisions/0016).
const receiverCost = 16

// sendCost is the credit that SENDs take, in bytes.
type sendCost struct {
	inFlight int // with receiverCost: counts against Config.Credit
	// with wire.DefaultReceiverCost, by which a client that does not know that field expects
	// ACKs
	unacked int
}

func costOf(m *wire.Send) sendCost {
	return sendCost{
		inFlight: wire.SendCost(m.To.Len(), len(m.Body), receiverCost),
		unacked:  wire.SendCost(m.To.Len(), len(m.Body), wire.DefaultReceiverCost),
	}
}

func (c sendCost) plus(d sendCost) sendCost {
	return sendCost{c.inFlight + d.inFlight, c.unacked + d.unacked}
}

// verdictKey identifies a message in a VERDICT of a receiver.
type verdictKey struct{ sender, seq uint64 }

func newSession(c *conn) *session {
	s := &session{hub: c.hub, id: c.id.Load(), subject: c.subject(), secret: rand.Text(), conn: c}
	s.reportOptions = outbox.Options{Events: reportEvents{s}, Overflow: outbox.OverflowForce}
	s.controlOptions = outbox.Options{Events: controlEvents{s}, Overflow: outbox.OverflowPriority}
	return s
}

// The frames that are sent with session.controlOptions, as Batch.Receiver.
const (
	controlAck = iota
	controlPing
)

// matchesSecret reports whether secret is that of the session, in constant time.
func (s *session) matchesSecret(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(s.secret), []byte(secret)) == 1
}

// requestTakeover asks c to detach because another connection is resuming its session.
func (s *session) requestTakeover(c *conn) {
	s.mu.Lock()
	first := s.conn == c && !s.takeoverRequested
	s.takeoverRequested = s.takeoverRequested || first
	s.mu.Unlock()
	if first {
		c.v2.Load().takeover.Set()
		c.interruptWaits()
		c.sock.Interrupt()
	}
}

// beginResume reserves the session for the connection that resumes it from c. It returns
// false when c is not the current connection, another connection is resuming the session, or
// the resume window is over.
func (s *session) beginResume(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c || s.resuming || s.windowClosed {
		return false
	}
	s.resuming = true
	return true
}

// abortResume undoes beginResume after a failure. The session cannot be resumed from c any
// more, and c is closed.
func (s *session) abortResume(c *conn) {
	s.mu.Lock()
	s.resuming = false
	s.mu.Unlock()
	c.close(c.v2.Load().closeReason) // set, because beginResume requires that c is detached
}

// finishResume makes c the connection of the session after beginResume. The client is to get
// an ACK for what was queued since its WELCOME was written.
func (s *session) finishResume(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.resuming, s.takeoverRequested = c, false, false
	s.unackedBytes++
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

// closeResumeWindow ends the resume window of c and reports whether another connection has
// resumed its session.
func (s *session) closeResumeWindow(c *conn) bool {
	s.mu.Lock()
	isCurrent, resuming := s.conn == c, s.resuming
	s.windowClosed = isCurrent && !resuming
	s.mu.Unlock()
	return !isCurrent || resuming && c.takenOver() // one that is resuming now succeeds or fails first
}

// onSent adds a batch of SENDs that was offered. onQueued must be called when none of them is
// blocked any more.
func (s *session) onSent(lastSeq uint64, cost sendCost) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight = append(s.inFlight, inFlightSends{lastSeq: lastSeq, cost: cost})
	s.bytesInFlight += cost.inFlight
}

// onQueued records that all SENDs of the batch that ends with lastSeq are queued, or have
// failed.
func (s *session) onQueued(lastSeq uint64) {
	s.mu.Lock()
	for i := range s.inFlight {
		if s.inFlight[i].lastSeq == lastSeq {
			s.inFlight[i].queued = true
			break
		}
	}
	n := 0
	for n < len(s.inFlight) && s.inFlight[n].queued {
		s.bytesInFlight -= s.inFlight[n].cost.inFlight
		s.unackedBytes += s.inFlight[n].cost.unacked
		s.queuedSeq = s.inFlight[n].lastSeq
		n++
	}
	s.inFlight = append(s.inFlight[:0], s.inFlight[n:]...)
	s.signalReader()
	threshold := s.currentAckThreshold()
	s.mu.Unlock()
	s.sendAck(threshold)
}

// currentAckThreshold returns the cost of queued SENDs at which an ACK is sent, requested or
// not. It is called with mu held.
func (s *session) currentAckThreshold() int {
	if s.ackRequested {
		return 1
	}
	return s.ackThreshold()
}

// ackThreshold returns the cost of queued SENDs at which an ACK is sent unrequested, in
// bytes.
func (s *session) ackThreshold() int { return s.hub.config.Credit / 4 }

// sendAck sends an ACK if the SENDs that it acknowledges cost at least threshold. At most one
// ACK waits to be written.
func (s *session) sendAck(threshold int) {
	s.mu.Lock()
	send := s.unackedBytes >= threshold && !s.ackPending
	if send {
		s.unackedBytes, s.ackPending, s.ackRequested = 0, true, false
	} else if s.ackPending && threshold < s.ackThreshold() {
		s.ackRequested = true
	}
	seq, c := s.queuedSeq, s.conn
	s.mu.Unlock()
	if send && !c.sendFrameTagged(wire.AppendAck(nil, seq), &s.controlOptions, controlAck) {
		s.onAckWritten()
	}
}

// ackAll sends an ACK for all SENDs that are queued. If more are in flight, the next ACK
// follows as soon as one of them is queued: the client that asks may be blocked by exactly
// that.
func (s *session) ackAll() {
	s.sendAck(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackRequested = s.ackRequested || s.bytesInFlight > 0
}

// onAckWritten records that an ACK was written or lost.
func (s *session) onAckWritten() {
	s.mu.Lock()
	s.ackPending = false
	s.ackRequested = s.ackRequested && s.bytesInFlight+s.unackedBytes > 0
	threshold := s.currentAckThreshold()
	s.mu.Unlock()
	s.sendAck(threshold)
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

// loadQueuedSeq returns the seq up to which all SENDs are queued.
func (s *session) loadQueuedSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queuedSeq
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

// signalReader wakes the read loop if it waits for room. It is called with mu held.
func (s *session) signalReader() {
	select { // a send on a nil channel blocks
	case s.readerSignal <- struct{}{}:
	default:
	}
}

// tryReserve reports whether the credit has room for one more SEND of that cost. With report
// it also needs room for one more pending report, and takes it.
func (s *session) tryReserve(cost int, report bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytesInFlight > 0 && s.bytesInFlight+cost > s.hub.config.Credit+wire.SendCost(wire.MaxReceivers, 0, receiverCost) {
		return false
	}
	if report {
		if s.pendingReports >= s.hub.config.MaxReports {
			return false
		}
		s.pendingReports++
	}
	return true
}

// sendReports queues n REPORTs for the client on its current connection.
func (s *session) sendReports(frames []byte, n int) {
	c, batch := s.writeReports(frames)
	batch.Frames, batch.Reliable, batch.Options = n, true, &s.reportOptions
	if c.offerAndFlush(&batch) != outbox.Queued {
		s.onReportsWritten(n)
	}
}

// reportBufSize is the size of a buffer of REPORTs, in bytes: room for 146 of the smallest.
const reportBufSize = 2 << 10

// writeReports copies REPORTs into the buffer from which they are sent, and where they are
// kept until the client acknowledges them. Small REPORTs share one buffer. The batch holds a
// reference to its buffer. The memory is overhead and must not count against the quota of the
// client's own messages: it is freed when the client acknowledges it, and that ACK may stand
// behind a message that waits for room in the quota.
func (s *session) writeReports(frames []byte) (*conn, outbox.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	if len(frames) > reportBufSize {
		buffer := c.account.ForceAcquireOverhead(len(frames))
		return c, outbox.Batch{Buffer: buffer, To: copy(buffer.Bytes(), frames)}
	}
	if s.reportBuf == nil || s.reportBuf.Account() != c.account || len(s.reportBuf.Bytes())-s.reportBufUsed < len(frames) {
		s.releaseReportBuf()
		s.reportBuf = c.account.ForceAcquireOverhead(reportBufSize)
	}
	from := s.reportBufUsed
	s.reportBufUsed += copy(s.reportBuf.Bytes()[from:], frames)
	s.reportBuf.Retain()
	return c, outbox.Batch{Buffer: s.reportBuf, From: from, To: s.reportBufUsed}
}

// releaseReportBuf releases the report buffer. It is called with mu held.
func (s *session) releaseReportBuf() {
	if s.reportBuf != nil {
		s.reportBuf.Release()
		s.reportBuf, s.reportBufUsed = nil, 0
	}
}

// onReportsWritten records that n REPORTs were written or lost.
func (s *session) onReportsWritten(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pendingReports -= n
	s.releaseUnusedReportBuf()
	s.signalReader()
}

// dropReportBuf releases the report buffer although the outbox, which has lost REPORTs because
// the session has ended, still refers to it.
func (s *session) dropReportBuf() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseReportBuf()
}

// releaseUnusedReportBuf releases the report buffer when no REPORT in it is needed any more.
// It is called with mu held.
func (s *session) releaseUnusedReportBuf() {
	if s.reportBuf != nil && !s.reportBuf.Shared() {
		s.releaseReportBuf()
	}
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
		s.mu.Lock()
		defer s.mu.Unlock()
		s.releaseUnusedReportBuf()
	case outbox.EventUnacked:
		s.dropReportBuf()
	}
}

// controlEvents handles the events of ACKs and PINGs.
type controlEvents struct{ session *session }

// HandleEvent implements outbox.EventHandler.
func (h controlEvents) HandleEvent(receiver int, event outbox.Event, _, _ int) {
	switch {
	case event != outbox.EventWritten && event != outbox.EventLost:
	case receiver == controlAck:
		h.session.onAckWritten()
	default:
		h.session.onPingWritten()
	}
}

// The options of other frames that the hub itself sends.
var (
	priorityOptions = outbox.Options{Overflow: outbox.OverflowPriority}
	forceOptions    = outbox.Options{Overflow: outbox.OverflowForce}
	rejectOptions   = outbox.Options{Overflow: outbox.OverflowReject}
)

// sendFrame queues a frame for the client and reports whether the outbox has taken it.
func (c *conn) sendFrame(frame []byte, options *outbox.Options) bool {
	return c.sendFrameTagged(frame, options, 0)
}

// sendFrameTagged is sendFrame for options whose event handler tells frames apart by tag.
func (c *conn) sendFrameTagged(frame []byte, options *outbox.Options, tag int) bool {
	batch := c.newBatch(frame, options)
	batch.Receiver = tag
	return c.offerAndFlush(&batch) == outbox.Queued
}

// newBatch returns a batch of one frame, with a buffer of its own.
func (c *conn) newBatch(frame []byte, options *outbox.Options) outbox.Batch {
	buffer := c.account.ForceAcquireOverhead(len(frame))
	return outbox.Batch{Buffer: buffer, To: copy(buffer.Bytes(), frame), Frames: 1, Options: options}
}

// offerAndFlush offers one batch to the client and flushes it. It takes over the reference to
// the buffer, and releases it before anything is written.
func (c *conn) offerAndFlush(batch *outbox.Batch) outbox.Outcome {
	var flusher outbox.Flusher
	outcome := c.sock.Offer(batch, &flusher)
	batch.Buffer.Release()
	flusher.Flush()
	return outcome
}
