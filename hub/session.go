package hub

import (
	"crypto/rand"
	"crypto/subtle"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// session is a client of version 2: what outlives its connections.
type session struct {
	// Static after newSession.
	hub            *Hub
	id             uint64
	subject        string // who it is
	secret         string
	reportOptions  socket.Options // those of a REPORT
	controlOptions socket.Options // those of a TAKEN and of a PING

	// Owned by the reading goroutine of the session that it has, or of the one that has claimed it.
	lastSeq  uint64          // of the last SEND
	attempts socket.Attempts // to write the first frame that the client does not have

	mu                sync.Mutex
	conn              *conn // that it has, or had last
	takeoverRequested bool  // that one was asked to end
	resuming          bool  // somebody is about to go on with it
	windowClosed      bool  // nobody can go on with it any more

	inFlight       []inFlightSends
	bytesInFlight  int           // cost of what is in flights
	unackedBytes   int           // cost of what was taken since the last TAKEN
	ackPending     bool          // that one waits to be written: then there is no need of another
	ackRequested   bool          // somebody wants to hear at once what has been taken since
	pingPending    bool          // a PING waits to be written
	queuedSeq      uint64        // seq up to which everything is queued
	pendingReports int           // SENDs whose REPORT is not written
	blockedReplies int           // that wait for room in its own queue, each for one read
	readerSignal   chan struct{} // capacity 1: one of these went down; nil: nobody has waited for that yet
	reportBuf      *body.Buffer  // where REPORTs are written, while one of those in it is needed
	reportBufUsed  int           // bytes of it
	verdictWaiters map[verdictKey]*deliveryTracker
}

// inFlightSends is SENDs that were offered at once and wait for room somewhere.
type inFlightSends struct {
	lastSeq uint64 // seq of the last
	cost    sendCost
	queued  bool
}

// receiverCost is what each receiver of a SEND counts against the credit, in bytes
// (docs/decisions/0016).
const receiverCost = 16

// sendCost is what SENDs count against the credit of their client, in bytes.
type sendCost struct {
	inFlight int // with receiverCost: what is admitted
	unacked  int // with wire.DefaultReceiverCost: a client from before that field expects TAKEN by this count
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

// verdictKey names a message as its receivers do.
type verdictKey struct{ sender, seq uint64 }

func newSession(c *conn) *session {
	s := &session{hub: c.hub, id: c.id.Load(), subject: c.subject(), secret: rand.Text(), conn: c}
	s.reportOptions = socket.Options{Events: reportEvents{s}, Overflow: socket.OverflowForce}
	s.controlOptions = socket.Options{Events: controlEvents{s}, Overflow: socket.OverflowPriority}
	return s
}

// What a frame of the peer's control terms is, as Piece.At.
const (
	controlAck = iota
	controlPing
)

// matchesSecret reports whether that is the secret. It takes as long for a wrong one.
func (s *session) matchesSecret(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(s.secret), []byte(secret)) == 1
}

// requestTakeover has a session end because another wants to go on with its peer.
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

// beginResume reserves the peer for the one who goes on with what s has left.
func (s *session) beginResume(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c || s.resuming || s.windowClosed {
		return false
	}
	s.resuming = true
	return true
}

// abortResume undoes a claim that came to nothing. What s has left cannot be had any
// more by the one who claimed, so it ends.
func (s *session) abortResume(c *conn) {
	s.mu.Lock()
	s.resuming = false
	s.mu.Unlock()
	c.close(c.v2.Load().closeReason) // its reading has ended, or there would be no claim
}

// finishResume makes s the peer's session after a claim. What was taken since its WELCOME was
// written is to be told.
func (s *session) finishResume(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.resuming, s.takeoverRequested = c, false, false
	s.unackedBytes++
}

// countOmitted counts messages that the client does not get although it has come back.
func (s *session) countOmitted(omitted socket.Omitted) {
	counters := &s.hub.counters
	counters.gone.Add(uint64(omitted.Unreachable))
	counters.tooLarge.Add(uint64(omitted.TooLarge))
	if omitted.Unreachable > 0 {
		s.hub.config.Logger.Info("message given up", "client", s.id, "cause", "no connection of the client carries it")
	}
}

// closeResumeWindow ends the time in which somebody could go on with what s has left. It
// reports whether somebody has.
func (s *session) closeResumeWindow(c *conn) bool {
	s.mu.Lock()
	isCurrent, resuming := s.conn == c, s.resuming
	s.windowClosed = isCurrent && !resuming
	s.mu.Unlock()
	return !isCurrent || resuming && c.takenOver() // in this moment: it will be moved, or end
}

// onSent notes SENDs that were offered. landed must be called when none of them
// waits for room any more.
func (s *session) onSent(lastSeq uint64, cost sendCost) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight = append(s.inFlight, inFlightSends{lastSeq: lastSeq, cost: cost})
	s.bytesInFlight += cost.inFlight
}

// onQueued notes that the SENDs that were launched up to lastSeq are all queued, or
// have met another fate.
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

// currentAckThreshold is the cost of SENDs that are taken before the client is told so, unasked or as it has asked. It is called with mu held.
func (s *session) currentAckThreshold() int {
	if s.ackRequested {
		return 1
	}
	return s.ackThreshold()
}

// ackThreshold is the cost of SENDs that are taken before the client is told so unasked.
func (s *session) ackThreshold() int { return s.hub.config.Credit / 4 }

// sendAck sends a TAKEN when SENDs of that cost were taken. There is one at a time.
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

// ackAll sends a TAKEN for all that was taken, and another when something more is, if more is under way: a client that asks
// is perhaps blocked by just that.
func (s *session) ackAll() {
	s.sendAck(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackRequested = s.ackRequested || s.bytesInFlight > 0
}

// onAckWritten notes that a TAKEN has left, or never will.
func (s *session) onAckWritten() {
	s.mu.Lock()
	s.ackPending = false
	s.ackRequested = s.ackRequested && s.bytesInFlight+s.unackedBytes > 0
	threshold := s.currentAckThreshold()
	s.mu.Unlock()
	s.sendAck(threshold)
}

// sendPing asks the client for a sign of life. There is one PING at a time.
func (s *session) sendPing(c *conn) {
	s.mu.Lock()
	send := !s.pingPending
	s.pingPending = true
	s.mu.Unlock()
	if send && !c.sendFrameTagged(wire.AppendPing(nil, uint64(time.Now().UnixMicro())), &s.controlOptions, controlPing) {
		s.onPingWritten()
	}
}

// onPingWritten notes that a PING has left, or never will.
func (s *session) onPingWritten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pingPending = false
}

// addBlockedReplies notes that one answer more, or one less, waits for room.
func (s *session) addBlockedReplies(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blockedReplies += n
	s.signalReader()
}

// canReadRequests reports whether further requests may be read.
func (s *session) canReadRequests() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blockedReplies < maxBlockedReplies
}

// loadQueuedSeq returns the seq up to which everything is queued.
func (s *session) loadQueuedSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queuedSeq
}

// readerSignalChan returns the channel that receives a value when there may be room.
func (s *session) readerSignalChan() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readerSignal == nil {
		s.readerSignal = make(chan struct{}, 1)
	}
	return s.readerSignal
}

// signalReader wakes the reader if it waits for room. It is called with mu held.
func (s *session) signalReader() {
	select { // nobody receives from a nil channel
	case s.readerSignal <- struct{}{}:
	default:
	}
}

// tryReserve reports whether one more SEND of that cost may come in, and adds it to the
// reports to be made.
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

// sendReports queues REPORTs for the peer, wherever it is connected.
func (s *session) sendReports(frames []byte, n int) {
	c, batch := s.writeReports(frames)
	batch.Frames, batch.Reliable, batch.Options = n, true, &s.reportOptions
	if c.offerAndFlush(&batch) != socket.Queued {
		s.onReportsWritten(n)
	}
}

// reportBufSize is how many bytes of REPORTs lie together: of the smallest, 146.
const reportBufSize = 2 << 10

// writeReports puts REPORTs where they are sent from, and kept until they are acknowledged: so
// that little ones take little. The piece has a reference to its buffer. What they take must not
// count against the share of the client's own messages: it is given back when the client has
// acknowledged them, which may stand behind a message that waits for room in that share.
func (s *session) writeReports(frames []byte) (*conn, socket.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	if len(frames) > reportBufSize {
		buffer := c.account.ForceAcquireOverhead(len(frames))
		return c, socket.Batch{Buffer: buffer, To: copy(buffer.Bytes(), frames)}
	}
	if s.reportBuf == nil || s.reportBuf.Account() != c.account || len(s.reportBuf.Bytes())-s.reportBufUsed < len(frames) {
		s.releaseReportBuf()
		s.reportBuf = c.account.ForceAcquireOverhead(reportBufSize)
	}
	from := s.reportBufUsed
	s.reportBufUsed += copy(s.reportBuf.Bytes()[from:], frames)
	s.reportBuf.Retain()
	return c, socket.Batch{Buffer: s.reportBuf, From: from, To: s.reportBufUsed}
}

// releaseReportBuf gives up the block. It is called with mu held.
func (s *session) releaseReportBuf() {
	if s.reportBuf != nil {
		s.reportBuf.Release()
		s.reportBuf, s.reportBufUsed = nil, 0
	}
}

// onReportsWritten notes that REPORTs have left, or never will.
func (s *session) onReportsWritten(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pendingReports -= n
	s.releaseUnusedReportBuf()
	s.signalReader()
}

// releaseUnusedReportBuf gives up the block when nothing in it is needed any more. It is called with mu held.
func (s *session) releaseUnusedReportBuf() {
	if s.reportBuf != nil && !s.reportBuf.Shared() {
		s.releaseReportBuf()
	}
}

// reportEvents is told what becomes of REPORTs.
type reportEvents struct{ session *session }

// HandleEvent takes note: see socket.EventHandler.
func (h reportEvents) HandleEvent(_ int, event socket.Event, _, frames int) {
	switch s := h.session; event {
	case socket.EventWritten, socket.EventLost:
		s.onReportsWritten(frames)
	case socket.EventAcked, socket.EventUnacked:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.releaseUnusedReportBuf()
	}
}

// controlEvents is told when a TAKEN or a PING has left, or never will.
type controlEvents struct{ session *session }

// HandleEvent takes note: see socket.EventHandler.
func (h controlEvents) HandleEvent(receiver int, event socket.Event, _, _ int) {
	switch {
	case event != socket.EventWritten && event != socket.EventLost:
	case receiver == controlAck:
		h.session.onAckWritten()
	default:
		h.session.onPingWritten()
	}
}

// The terms of other frames that the hub sends on its own.
var (
	priorityOptions = socket.Options{Overflow: socket.OverflowPriority}
	forceOptions    = socket.Options{Overflow: socket.OverflowForce}
	rejectOptions   = socket.Options{Overflow: socket.OverflowReject}
)

// sendFrame queues a frame for the client and reports whether it was taken.
func (c *conn) sendFrame(frame []byte, options *socket.Options) bool {
	return c.sendFrameTagged(frame, options, 0)
}

// sendFrameTagged is post for terms whose Tracker has to tell frames apart.
func (c *conn) sendFrameTagged(frame []byte, options *socket.Options, tag int) bool {
	batch := c.newBatch(frame, options)
	batch.Receiver = tag
	return c.offerAndFlush(&batch) == socket.Queued
}

// newBatch returns a piece with a buffer of its own.
func (c *conn) newBatch(frame []byte, options *socket.Options) socket.Batch {
	buffer := c.account.ForceAcquireOverhead(len(frame))
	return socket.Batch{Buffer: buffer, To: copy(buffer.Bytes(), frame), Frames: 1, Options: options}
}

// offerAndFlush offers one piece to the client and gets it on its way. It takes over the
// reference to the buffer, and gives it up before anything is written.
func (c *conn) offerAndFlush(batch *socket.Batch) socket.Outcome {
	var flusher socket.Flusher
	outcome := c.sock.Offer(batch, &flusher)
	batch.Buffer.Release()
	flusher.Flush()
	return outcome
}
