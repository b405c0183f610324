package client

import (
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// sendQueue holds the messages that Send has accepted in version 2 and that the hub has not
// acknowledged. It outlives connections: after a reconnect, the client sends again what has not
// reached the hub.
//
// Messages enter at the end, one at a time: see enqueue. The cost of the messages in flight
// never exceeds the credit of the hub, except for a single larger message.
type sendQueue struct {
	// Static after init.
	maxCost int           // cost of the queue at which Send waits
	resend  bool          // Options.Resend
	probe   func(*conn)   // asks the hub for an ACK; called without mu
	sendMu  chan struct{} // capacity 1, as a mutex: held while a message enters
	notFull chan struct{} // capacity 1: the queue became shorter, or has ended
	flushed chan struct{} // capacity 1: all messages are in flight

	// Guarded by mu.
	mu               sync.Mutex
	conn             *conn // nil while disconnected
	pumping          bool  // a goroutine runs pump
	seq              uint64
	hubGeneration    int  // number of new hubs; ids of one hub are invalid at the next
	grantedIDsValid  bool // except granted ids, if both hubs grant ids
	sends            pendingSends
	window           sendWindow
	calls            calls
	queueFull        bool            // Send waits for room
	attempts         outbox.Attempts // to send the first message that the hub does not have
	lastConnDuration time.Duration   // of the last connection
	sealed           bool            // BYE follows; nothing enters any more
	err              error           // why nothing enters any more
}

func (q *sendQueue) init(maxCost int, resend bool, probe func(*conn)) {
	q.maxCost, q.resend, q.probe = maxCost, resend, probe
	q.sendMu, q.notFull, q.flushed = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	q.calls.bySeq = make(map[uint64]*call)
}

// pumpAndProbe sends the messages that can be sent now, in order, and then probes the hub if
// needed: see probeTarget. If another goroutine runs pump already, that goroutine sends them.
func (q *sendQueue) pumpAndProbe() {
	if cn := q.pump(); cn != nil {
		q.probe(cn)
	}
}

// probeIfBlocked probes the hub if needed: see probeTarget.
func (q *sendQueue) probeIfBlocked() {
	q.mu.Lock()
	cn := q.probeTarget()
	q.mu.Unlock()
	if cn != nil {
		q.probe(cn)
	}
}

// pump sends the messages that can be sent now. It returns the connection to probe, or nil: see
// probeTarget.
func (q *sendQueue) pump() (probeConn *conn) {
	p, cn, probeConn := q.nextReady(true)
	if cn == nil {
		return probeConn
	}
	f := flushers.Get().(*outbox.Flusher)
	for ; cn != nil; p, cn, probeConn = q.nextReady(false) {
		// A blocked message keeps its place in the outbox.
		outcome := cn.sock.Offer(&outbox.Batch{Buffer: p.buffer, To: p.length, Frames: 1, Options: p.sockOptions}, f)
		p.buffer.Release()
		if outcome == outbox.AlreadyExpired {
			q.removeUnwritten(p.seq)
		}
	}
	f.Abandon()
	flushers.Put(f)
	return probeConn
}

// probeTarget returns the connection to probe, or nil. A probe is needed when sending is
// blocked and the hub sends no ACK by itself: see sendWindow.shouldProbe. Sending is blocked
// when the credit has no room for the next message, or when the queue is full and all of it is
// in flight. probeTarget is called with mu held.
func (q *sendQueue) probeTarget() *conn {
	blocked := q.queueFull
	if q.sends.firstUnsent() != nil {
		blocked = q.window.creditBlocked
	}
	if q.conn == nil || q.pumping || !blocked || !q.window.shouldProbe() {
		return nil
	}
	return q.conn
}

// nextReady returns the next message that can be sent, with a reference to its buffer, and the
// connection for it. cn is nil if no message can be sent or if another goroutine runs pump;
// probeConn is the connection to probe then, or nil. After each message, the caller must call
// nextReady again with first false, until cn is nil.
func (q *sendQueue) nextReady(first bool) (p pendingSend, cn, probeConn *conn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if first && q.pumping {
		return pendingSend{}, nil, nil
	}
	q.dropExpired()
	ready := q.sends.firstUnsent()
	q.pumping = q.conn != nil && ready != nil && q.window.canSend(ready)
	if !q.pumping {
		if ready == nil {
			signal(q.flushed)
		}
		return pendingSend{}, nil, q.probeTarget()
	}
	p = *ready
	p.applyLimits(&q.window.limits)
	p.buffer.Retain()
	q.sends.next++
	q.window.onSent(&p)
	return p, q.conn, nil
}

// handleAck handles an ACK: the hub has acknowledged all messages up to upTo.
func (q *sendQueue) handleAck(upTo uint64) error {
	var free []*body.Buffer
	q.mu.Lock()
	if upTo > q.seq {
		q.mu.Unlock()
		return errAckBeyondSent
	}
	n := 0
	for inFlight := q.sends.inFlight(); n < len(inFlight) && inFlight[n].seq <= upTo; n++ {
		p := &inFlight[n]
		q.window.onAcked(p)
		if c := q.calls.bySeq[p.seq]; c != nil && p.wantsReport && q.resend {
			q.calls.retain(c, p)
		} else {
			free = append(free, p.buffer)
		}
	}
	q.sends.remove(0, n)
	q.window.probed = q.window.probed && n == 0
	q.mu.Unlock()
	for _, b := range free {
		b.Release()
	}
	if n > 0 {
		signal(q.notFull)
		q.pumpAndProbe()
	}
	return nil
}

// handleReport handles a REPORT.
func (q *sendQueue) handleReport(r wire.Report) error {
	if !q.expectsReport(r.Seq, len(r.Fates)) {
		return errUnexpectedReport
	}
	c := q.removeCall(r.Seq)
	if c == nil {
		return nil // the client has just ended
	}
	fates := make([]wire.Fate, len(r.Fates))
	for i, f := range r.Fates {
		fates[i] = c.fateOf(wire.Fate(f))
	}
	q.pumpAndProbe()
	c.onReport(&Report{Seq: r.Seq, Fates: fates}, nil)
	return nil
}

// expectsReport reports whether a message to that number of receivers waits for its report.
func (q *sendQueue) expectsReport(seq uint64, receivers int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.calls.bySeq[seq]
	return q.err != nil || c != nil && c.receivers == receivers
}

// dropRefused removes a message that the hub has refused. It returns the call of the message,
// or nil without one.
func (q *sendQueue) dropRefused(seq uint64) *call {
	defer signal(q.flushed)
	var free *body.Buffer
	q.mu.Lock()
	if i, found := q.sends.find(seq); found && i < q.sends.next {
		p := &q.sends.all[i]
		q.window.onAcked(p)
		free = p.buffer
		q.sends.remove(i, i+1)
	}
	q.mu.Unlock()
	if free != nil {
		free.Release()
	}
	c := q.removeCall(seq)
	signal(q.notFull)
	q.pumpAndProbe()
	return c
}

// removeCall removes and returns the call of a message, or returns nil without one.
func (q *sendQueue) removeCall(seq uint64) *call {
	q.mu.Lock()
	c := q.calls.bySeq[seq]
	if c == nil {
		q.mu.Unlock()
		return nil
	}
	q.calls.drop(seq, c)
	q.window.pendingReports--
	kept := q.calls.takeRetained(c).buffer
	q.mu.Unlock()
	if kept != nil {
		kept.Release()
		signal(q.notFull)
	}
	return c
}

// A message with a TTL can wait in the send queue, in the outbox of a connection, and in the
// hub. If the client knows that the hub has not received the message, the client drops it when
// it expires and makes the report itself. Otherwise the hub makes the report.

// expiryHandler is the outbox.EventHandler of a message with a TTL. When the message expires in
// the outbox of a connection, the hub has not received it.
type expiryHandler struct {
	queue *sendQueue
	seq   uint64
}

// HandleEvent implements outbox.EventHandler.
func (h expiryHandler) HandleEvent(_ int, event outbox.Event, _, _ int) {
	if event == outbox.EventExpired {
		h.queue.removeUnwritten(h.seq)
	}
}

// onExpired runs in the timer of a call, when the message expires or when calls.fireTimer was
// called.
func (q *sendQueue) onExpired(seq uint64, options *outbox.Options) {
	defer q.calls.timers.Done()
	q.mu.Lock()
	cn := q.conn
	q.mu.Unlock()
	if cn != nil {
		cn.sock.Retract(options)
	}
	q.mu.Lock()
	c := q.calls.bySeq[seq]
	if c == nil {
		q.mu.Unlock()
		return
	}
	var free *body.Buffer
	if i, found := q.sends.find(seq); found && i >= q.sends.next {
		free = q.removeExpired(i, c)
	}
	fate := c.fate
	if fate != 0 {
		q.calls.drop(seq, c)
	}
	q.mu.Unlock()
	if free != nil {
		free.Release()
		q.notifyRemoved()
	}
	if fate != 0 { // otherwise the hub may have the message, and reports
		c.onReport(&Report{Seq: seq, Fates: slices.Repeat([]wire.Fate{fate}, c.receivers)}, nil)
	}
}

// removeUnwritten removes a message that expired in the outbox of the connection, and schedules
// its report.
func (q *sendQueue) removeUnwritten(seq uint64) {
	q.mu.Lock()
	c := q.calls.bySeq[seq]
	if c == nil || c.fate != 0 {
		q.mu.Unlock()
		return
	}
	var free *body.Buffer
	if i, found := q.sends.find(seq); found {
		if i < q.sends.next {
			q.window.onUnsent(&q.sends.all[i])
		}
		free = q.removeExpired(i, c)
		q.calls.fireTimer(c, c.fate)
	} else { // the hub has acknowledged a later message
		q.window.pendingReports--
		free = q.calls.takeRetained(c).buffer
		q.calls.fireTimer(c, wire.FateExpired)
	}
	q.mu.Unlock()
	if free != nil {
		free.Release()
	}
	q.notifyRemoved()
}

// dropExpired removes expired messages at the front of the unsent part of the queue. It is
// called with mu held.
func (q *sendQueue) dropExpired() {
	for p := q.sends.firstUnsent(); p != nil && p.hasExpired(); p = q.sends.firstUnsent() {
		c := q.calls.bySeq[p.seq]
		if c == nil {
			return // the client has ended
		}
		q.removeExpired(q.sends.next, c).Release()
		q.calls.fireTimer(c, c.fate)
		signal(q.notFull)
	}
}

// removeExpired removes message i from the queue and sets the fate of c: expired, or uncertain
// if an earlier session may have sent the message. It returns the buffer of the message. It is
// called with mu held.
func (q *sendQueue) removeExpired(i int, c *call) *body.Buffer {
	p := &q.sends.all[i]
	c.fate = wire.FateExpired
	if p.maybeSent {
		c.fate = wire.FateUncertain
	}
	free := p.buffer
	q.sends.remove(i, i+1)
	return free
}

// notifyRemoved signals the goroutines that wait for room, and sends messages that can be sent
// now.
func (q *sendQueue) notifyRemoved() {
	signal(q.notFull)
	signal(q.flushed)
	q.pumpAndProbe()
}

// close ends the queue. It returns the calls that will get no report.
func (q *sendQueue) close(err error) (failed []*call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return nil
	}
	q.err, q.conn = err, nil
	failed = q.calls.dropIf(func(uint64, *call) bool { return true })
	signal(q.notFull)
	return failed
}

// count returns the number of unacknowledged and unsent messages.
func (q *sendQueue) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.sends.all)
}

// ackAll removes all messages in flight from the queue: the hub has them.
func (q *sendQueue) ackAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sends.remove(0, q.sends.next)
}

// flush waits until all messages are in flight on cn, and seals the queue. It returns false if
// cn ends, or stop is closed, before.
func (q *sendQueue) flush(cn *conn, stop <-chan struct{}) bool {
	for {
		q.mu.Lock()
		detached, flushed := q.conn != cn, q.sends.firstUnsent() == nil && !q.pumping
		q.sealed = q.sealed || flushed && !detached
		q.mu.Unlock()
		if detached || flushed {
			return !detached
		}
		select {
		case <-q.flushed:
		case <-cn.done:
			return false
		case <-stop:
			return false
		}
	}
}

// hasUnacked reports whether messages in flight are unacknowledged. removals changes with each
// ACK.
func (q *sendQueue) hasUnacked() (yes bool, removals uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.conn != nil && q.sends.next > 0, q.sends.removals
}

// waitTimers waits until no timer of a call runs.
func (q *sendQueue) waitTimers() { q.calls.timers.Wait() }
