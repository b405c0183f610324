package client

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// sendQueue holds the messages that Send has accepted in version 2 and that the hub has not
// acknowledged. It outlives connections: after a reconnect, the client sends again what has not
// reached the hub.
//
//	queue  ├── in flight on conn ──┼── unsent ──┤
//	       0                       next
//
// Messages enter at the end, one at a time. The cost of the messages in flight never exceeds
// the credit of the hub, except for a single larger message.
type sendQueue struct {
	maxCost int           // cost of the queue at which Send waits
	resend  bool          // Options.Resend
	sendMu  chan struct{} // capacity 1, as a mutex: held while a message enters
	notFull chan struct{} // capacity 1: the queue became shorter, or has ended
	flushed chan struct{} // capacity 1: all messages are in flight

	// Guarded by mu.
	mu               sync.Mutex
	conn             *conn      // nil while disconnected
	limits           sendLimits // of the hub
	pumping          bool       // a goroutine runs pump
	seq              uint64
	hubGeneration    int  // number of new hubs; ids of one hub are invalid at the next
	grantedIDsValid  bool // except granted ids, if both hubs grant ids
	queue            []pendingSend
	next             int
	cost             int  // of the queue
	inFlight         int  // cost of the messages in flight
	creditBlocked    bool // the credit was used up, and less than half is free again
	queueFull        bool // Send waits for room
	probed           bool // probed, and no ACK has come since: see probeTarget
	pendingReports   int  // messages in flight that wait for a report
	calls            map[uint64]*call
	timers           sync.WaitGroup  // of calls
	attempts         socket.Attempts // to send the first message that the hub does not have
	lastConnDuration time.Duration   // of the last connection
	retainedCost     int             // cost of call.retained of all calls
	removals         uint64          // changes when the queue becomes shorter
	sealed           bool            // BYE follows; nothing enters any more
	err              error           // why nothing enters any more
}

// sendLimits are the limits for sending from WELCOME.
type sendLimits struct {
	credit, maxReports int

	receiverCost int // credit that each receiver of a SEND costs

	grantsIDs bool // ids up to wire.MaxGrantedID are valid in every epoch

	// maxReportTimeout is the largest report timeout in a SEND; 0: a SEND must not name one.
	maxReportTimeout time.Duration
}

// cost returns the credit that p costs.
func (l *sendLimits) cost(p *pendingSend) int { return p.length + int(p.receivers)*l.receiverCost }

// maxRetained is the size of the retained messages, in bytes, at which Send waits for reports.
const maxRetained = 16 << 20

// pendingSend is a SEND in the send queue. It owns one reference to its buffer.
type pendingSend struct {
	seq         uint64
	cost        int // in credit of the hub
	buffer      *body.Buffer
	length      int
	sockOptions *socket.Options // nil without a TTL
	receivers   uint8
	wantsReport bool // the hub sends a REPORT
	maybeSent   bool // was in flight in an earlier session, and may have arrived

	// Options that not every hub understands. applyLimits writes them into the frame when the
	// limits of the hub are known.
	options       wire.Options
	reportTimeout time.Duration // 0: not in the SEND
}

// applyLimits writes the options into the frame, as far as the hub understands them. The frame
// must not be shared.
func (p *pendingSend) applyLimits(limits *sendLimits) {
	if p.reportTimeout > 0 {
		wire.PutSendOptions(p.buffer.Bytes(), p.options.WithReportTimeout(min(p.reportTimeout, limits.maxReportTimeout)))
	}
}

// namesAssigned reports whether a receiver has an id that the hub has assigned. If granted is
// true, ids up to wire.MaxGrantedID are not assigned.
func (p *pendingSend) namesAssigned(granted bool) bool {
	m, err := wire.ParseSend(p.buffer.Bytes()[wire.HeaderSize:p.length])
	if err != nil {
		return true // cannot happen
	}
	for id := range m.To.All() {
		if !granted || id > wire.MaxGrantedID {
			return true
		}
	}
	return false
}

// call is a SEND that waits for its report.
type call struct {
	onReport  func(*Report, error)
	receivers int
	// retained is the acknowledged message, kept to be sent again if the session is lost. Without
	// a buffer: the message is in the queue, or is not sent again.
	retained pendingSend

	timer *time.Timer // nil without a TTL
	fate  wire.Fate   // for the report by timer, because the hub sends none; 0: none
}

func (q *sendQueue) init(maxCost int, resend bool) {
	q.maxCost, q.resend = maxCost, resend
	q.sendMu, q.notFull, q.flushed = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	q.calls = make(map[uint64]*call)
}

// enqueue appends a message to the queue. It waits for its turn and for room until ctx ends or
// stop is closed. It copies to and message.
func (q *sendQueue) enqueue(ctx context.Context, stop <-chan struct{}, to []uint64, message []byte, options *SendOptions, c *call) error {
	p := pendingSend{
		receivers: uint8(len(to)), wantsReport: c != nil, sockOptions: options.sockOptions(),
		options: options.wireOptions(), reportTimeout: options.ReportTimeout,
	}
	if err := acquire(ctx, stop, q.sendMu); err != nil {
		return err
	}
	defer func() { <-q.sendMu }()
	p.length = wire.SendLen(len(to), len(message))
	hubGeneration, fits := q.setCost(&p)
	p.seq = q.seq + 1
	if p.sockOptions != nil {
		p.sockOptions.Events = expiryHandler{q, p.seq}
	}
	if !fits {
		if err := q.waitForRoom(ctx, stop, &p); err != nil {
			return err
		}
	}
	p.buffer = body.Get(p.length)
	wire.AppendSend(p.buffer.Bytes()[:0], p.seq, options.wireOptions(), options.ttlMillis(), to, message)
	return q.append(p, c, hubGeneration)
}

// waitForRoom waits until there is room for p, or until p has expired: an expired message
// leaves the queue soon.
func (q *sendQueue) waitForRoom(ctx context.Context, stop <-chan struct{}, p *pendingSend) error {
	var expired <-chan time.Time
	if p.sockOptions != nil {
		expired = time.After(p.timeLeft())
	}
	for !q.fits(p.cost) {
		q.probeIfBlocked()
		select {
		case <-q.notFull:
		case <-expired:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-stop:
			return ErrClosed
		}
	}
	return nil
}

// setCost sets the cost of p. It returns the current hubGeneration, and whether there is room
// for p.
func (q *sendQueue) setCost(p *pendingSend) (hubGeneration int, fits bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p.cost = q.limits.cost(p)
	return q.hubGeneration, q.fitsLocked(p.cost)
}

// checkReportTimeout returns an error if timeout exceeds the limit of the hub.
func (q *sendQueue) checkReportTimeout(timeout time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if limit := q.limits.maxReportTimeout; limit > 0 && timeout > limit {
		return &ReportTimeoutTooLongError{Timeout: timeout, Limit: limit}
	}
	return nil
}

// acquire sends to c, which is used as a semaphore, until ctx ends or stop is closed.
func acquire(ctx context.Context, stop <-chan struct{}, c chan<- struct{}) error {
	select {
	case c <- struct{}{}:
		return nil
	default:
	}
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-stop:
		return ErrClosed
	}
}

// fits reports whether there is room for a message of that cost.
func (q *sendQueue) fits(cost int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fitsLocked(cost)
}

// fitsLocked is fits. It is called with mu held.
func (q *sendQueue) fitsLocked(cost int) bool {
	q.queueFull = len(q.queue) > 0 && q.cost+cost > q.maxCost
	return q.err != nil || !q.queueFull && q.retainedCost < maxRetained
}

// append appends p to the queue. hubGeneration is the generation in which its receivers were
// named.
func (q *sendQueue) append(p pendingSend, c *call, hubGeneration int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		p.buffer.Release()
		return q.err
	}
	if q.sealed {
		p.buffer.Release()
		return ErrClosed
	}
	// The hub restarted while p waited.
	if hubGeneration != q.hubGeneration && p.namesAssigned(q.grantedIDsValid) {
		p.buffer.Release()
		return ErrSessionLost
	}
	q.seq = p.seq
	p.cost = q.limits.cost(&p) // the hub, and with it the cost, can have changed
	q.cost += p.cost
	q.queue = append(q.queue, p)
	if c != nil {
		q.calls[p.seq] = c
	}
	if p.sockOptions != nil {
		q.startExpiry(&p, c)
	}
	return nil
}

// pumpAndProbe sends the messages that can be sent now, in order, and then probes the hub if
// needed: see probeTarget. If another goroutine runs pump already, that goroutine sends them.
func (q *sendQueue) pumpAndProbe() {
	if cn := q.pump(); cn != nil {
		cn.probe()
	}
}

// probeIfBlocked probes the hub if needed: see probeTarget.
func (q *sendQueue) probeIfBlocked() {
	q.mu.Lock()
	cn := q.probeTarget()
	q.mu.Unlock()
	if cn != nil {
		cn.probe()
	}
}

// pump sends the messages that can be sent now. It returns the connection to probe, or nil: see
// probeTarget.
func (q *sendQueue) pump() (probeConn *conn) {
	p, cn, probeConn := q.nextReady(true)
	if cn == nil {
		return probeConn
	}
	f := flushers.Get().(*socket.Flusher)
	for ; cn != nil; p, cn, probeConn = q.nextReady(false) {
		// A blocked message keeps its place in the outbox.
		outcome := cn.sock.Offer(&socket.Batch{Buffer: p.buffer, To: p.length, Frames: 1, Options: p.sockOptions}, f)
		p.buffer.Release()
		if outcome == socket.AlreadyExpired {
			q.removeUnwritten(p.seq)
		}
	}
	f.Abandon()
	flushers.Put(f)
	return probeConn
}

// probeTarget returns the connection to probe, or nil. A probe is needed when sending is
// blocked and the hub sends no ACK by itself, because the cost in flight is below
// credit/ackFraction. Sending is blocked when the credit has no room for the next message, or
// when the queue is full and all of it is in flight. probeTarget is called with mu held.
func (q *sendQueue) probeTarget() *conn {
	waits := q.next < len(q.queue) && q.creditBlocked || q.next == len(q.queue) && q.queueFull
	if q.conn == nil || q.pumping || q.probed || !waits || q.inFlight == 0 || q.inFlight >= q.limits.credit/ackFraction {
		return nil
	}
	q.probed = true
	return q.conn
}

// ackFraction: the hub sends an ACK by itself for each 1/ackFraction of the credit
// (docs/PROTOCOL.md).
const ackFraction = 4

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
	q.pumping = q.conn != nil && q.next < len(q.queue) && q.canSend(&q.queue[q.next])
	if !q.pumping {
		if q.next == len(q.queue) {
			signal(q.flushed)
		}
		return pendingSend{}, nil, q.probeTarget()
	}
	p = q.queue[q.next]
	p.applyLimits(&q.limits)
	p.buffer.Retain()
	q.next++
	q.inFlight += p.cost
	if p.wantsReport {
		q.pendingReports++
	}
	return p, q.conn, nil
}

// canSend reports whether p can be put in flight. When the credit was used up, sending stops
// until half of the credit is free again: many messages then leave together and the hub relays
// them together, instead of one at a time. canSend is called with mu held.
func (q *sendQueue) canSend(p *pendingSend) bool {
	maxInFlight := q.limits.credit
	if q.creditBlocked {
		maxInFlight /= 2
	}
	q.creditBlocked = q.inFlight > 0 && (q.inFlight+p.cost > q.limits.credit || q.inFlight > maxInFlight)
	return !q.creditBlocked && (!p.wantsReport || q.pendingReports < q.limits.maxReports)
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
	for n < q.next && q.queue[n].seq <= upTo {
		if b := q.complete(&q.queue[n]); b != nil {
			free = append(free, b)
		}
		n++
	}
	q.remove(0, n)
	q.next -= n
	q.probed = q.probed && n == 0
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

// complete accounts for an acknowledged message that leaves the queue. It returns the buffer,
// or nil if a call retains it. It is called with mu held.
func (q *sendQueue) complete(p *pendingSend) *body.Buffer {
	q.inFlight -= p.cost
	q.cost -= p.cost
	if c := q.calls[p.seq]; c != nil && p.wantsReport && q.resend {
		c.retained = *p
		q.retainedCost += p.cost
		return nil
	}
	return p.buffer
}

// remove removes the messages from..to-1 from the queue. It is called with mu held.
func (q *sendQueue) remove(from, to int) {
	remaining := append(q.queue[:from], q.queue[to:]...)
	clear(q.queue[len(remaining):])
	q.queue = remaining
	if to > from {
		q.removals++
	}
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
		fates[i] = wire.Fate(f)
	}
	q.pumpAndProbe()
	c.onReport(&Report{Seq: r.Seq, Fates: fates}, nil)
	return nil
}

// expectsReport reports whether a message to that number of receivers waits for its report.
func (q *sendQueue) expectsReport(seq uint64, receivers int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.calls[seq]
	return q.err != nil || c != nil && c.receivers == receivers
}

// dropRefused removes a message that the hub has refused. It returns the call of the message,
// or nil without one.
func (q *sendQueue) dropRefused(seq uint64) *call {
	defer signal(q.flushed)
	var free *body.Buffer
	q.mu.Lock()
	i, found := slices.BinarySearchFunc(q.queue[:q.next], seq, func(p pendingSend, seq uint64) int { return cmp.Compare(p.seq, seq) })
	if found {
		q.inFlight -= q.queue[i].cost
		q.cost -= q.queue[i].cost
		free = q.queue[i].buffer
		q.remove(i, i+1)
		q.next--
	}
	q.mu.Unlock()
	if found {
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
	c := q.calls[seq]
	if c == nil {
		q.mu.Unlock()
		return nil
	}
	delete(q.calls, seq)
	q.stopExpiry(c)
	kept := q.releaseCall(c)
	q.mu.Unlock()
	if kept != nil {
		kept.Release()
		signal(q.notFull)
	}
	return c
}

// releaseCall accounts for a call in flight that has ended. It returns the retained buffer, or
// nil. It is called with mu held.
func (q *sendQueue) releaseCall(c *call) (kept *body.Buffer) {
	q.pendingReports--
	kept = c.retained.buffer
	if kept != nil {
		q.retainedCost -= c.retained.cost
		c.retained = pendingSend{}
	}
	return kept
}

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
	next := q.next
	for ; q.next > 0 && q.queue[q.next-1].seq > received; q.next-- {
		q.removeInFlight(&q.queue[q.next-1])
	}
	var free *body.Buffer
	if begun := q.next < next; q.attempts.RecordFailure(q.firstUnsentSeq(), begun, q.lastConnDuration) {
		p := q.queue[q.next]
		if undeliverable, waiter, free = p.seq, q.calls[p.seq], p.buffer; waiter != nil {
			q.stopExpiry(waiter)
			delete(q.calls, p.seq)
		}
		q.cost -= p.cost
		q.remove(q.next, q.next+1)
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

// firstUnsentSeq returns the seq of the first message that is not in flight, or 0 without one.
// It is called with mu held.
func (q *sendQueue) firstUnsentSeq() uint64 {
	if q.next == len(q.queue) {
		return 0
	}
	return q.queue[q.next].seq
}

// setLimits sets the limits of the hub and recomputes the costs. It is called with mu held.
func (q *sendQueue) setLimits(limits sendLimits) {
	costChanged := limits.receiverCost != q.limits.receiverCost
	q.limits, q.creditBlocked, q.probed = limits, false, false
	if !costChanged {
		return
	}
	q.cost, q.inFlight, q.retainedCost = 0, 0, 0
	for i := range q.queue {
		p := &q.queue[i]
		p.cost = limits.cost(p)
		q.cost += p.cost
		if i < q.next {
			q.inFlight += p.cost
		}
	}
	for _, c := range q.calls {
		if p := &c.retained; p.buffer != nil {
			p.cost = limits.cost(p)
			q.retainedCost += p.cost
		}
	}
}

// removeInFlight accounts for a message that is not in flight any more. It is called with mu
// held.
func (q *sendQueue) removeInFlight(p *pendingSend) {
	q.inFlight -= p.cost
	if p.wantsReport {
		q.pendingReports--
	}
}

// restart continues on cn with a new session. It returns what is not sent again: the calls, and
// the number of messages without a report. If newHub is true, messages to ids that the last hub
// had assigned are not sent either.
func (q *sendQueue) restart(cn *conn, limits sendLimits, newHub bool) (failed []*call, unconfirmed int) {
	q.mu.Lock()
	q.grantedIDsValid = q.limits.grantsIDs && limits.grantsIDs
	q.setLimits(limits)
	var free []*body.Buffer
	if q.resend {
		free = q.requeue()
	} else {
		failed, unconfirmed, free = q.dropInFlight()
	}
	if newHub {
		q.hubGeneration++
		f, n, b := q.dropAssigned()
		failed, unconfirmed, free = append(failed, f...), unconfirmed+n, append(free, b...)
	}
	q.next, q.inFlight, q.pendingReports = 0, 0, 0
	q.attempts = socket.Attempts{}
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
	var requeued []pendingSend
	for _, c := range q.calls {
		if c.retained.buffer != nil {
			c.retained.maybeSent = true
			requeued = append(requeued, c.retained)
			q.cost += c.retained.cost
			c.retained = pendingSend{}
		}
	}
	q.retainedCost = 0
	for i, p := range q.queue {
		if i < q.next && p.wantsReport && q.calls[p.seq] == nil { // the report came before the ACK
			q.cost -= p.cost
			free = append(free, p.buffer)
			continue
		}
		p.maybeSent = p.maybeSent || i < q.next
		requeued = append(requeued, p)
	}
	q.queue = requeued
	slices.SortFunc(q.queue, func(a, b pendingSend) int { return cmp.Compare(a.seq, b.seq) })
	return free
}

// dropInFlight drops the messages in flight, and the calls whose message is not in the queue
// any more. It returns buffers to release. It is called with mu held.
func (q *sendQueue) dropInFlight() (failed []*call, unconfirmed int, free []*body.Buffer) {
	for i := range q.queue[:q.next] {
		p := &q.queue[i]
		q.cost -= p.cost
		free = append(free, p.buffer)
		if !p.wantsReport {
			unconfirmed++
		}
	}
	q.remove(0, q.next)
	waiting := make(map[uint64]*call, len(q.calls))
	for _, p := range q.queue {
		if c := q.calls[p.seq]; c != nil {
			waiting[p.seq] = c
			delete(q.calls, p.seq)
		}
	}
	for seq, c := range q.calls {
		if c.fate != 0 { // the timer is about to report
			waiting[seq] = c
			continue
		}
		q.stopExpiry(c)
		failed = append(failed, c)
	}
	q.calls = waiting
	return failed, unconfirmed, free
}

// dropAssigned drops queued messages to ids that the last hub had assigned. It is called with
// mu held, when no message is in flight.
func (q *sendQueue) dropAssigned() (failed []*call, unconfirmed int, free []*body.Buffer) {
	kept := q.queue[:0]
	for _, p := range q.queue {
		if !p.namesAssigned(q.grantedIDsValid) {
			kept = append(kept, p)
			continue
		}
		q.cost -= p.cost
		free = append(free, p.buffer)
		c := q.calls[p.seq]
		switch {
		case !p.wantsReport:
			unconfirmed++
		case c != nil && c.fate == 0: // otherwise the timer reports, or has reported
			q.stopExpiry(c)
			delete(q.calls, p.seq)
			failed = append(failed, c)
		}
	}
	clear(q.queue[len(kept):])
	q.queue = kept
	q.removals++
	return failed, unconfirmed, free
}

// close ends the queue. It returns the calls that will get no report.
func (q *sendQueue) close(err error) (failed []*call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return nil
	}
	q.err, q.conn = err, nil
	for _, c := range q.calls {
		q.stopExpiry(c)
		failed = append(failed, c)
	}
	clear(q.calls)
	signal(q.notFull)
	return failed
}

// len returns the number of unacknowledged and unsent messages.
func (q *sendQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue)
}

// ackAll removes all messages in flight from the queue: the hub has them.
func (q *sendQueue) ackAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue, q.next = q.queue[q.next:], 0
}

// flush waits until all messages are in flight on cn, and seals the queue. It returns false if
// cn ends, or stop is closed, before.
func (q *sendQueue) flush(cn *conn, stop <-chan struct{}) bool {
	for {
		q.mu.Lock()
		detached, flushed := q.conn != cn, q.next == len(q.queue) && !q.pumping
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
	return q.conn != nil && q.next > 0, q.removals
}
