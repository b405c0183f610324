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

// sendQueue is what Send has taken in version 2 and the hub has not: it outlives
// connections, and is sent again on the next one as far as the hub has not had it.
//
//	line  ├── under way on link ──┼── not yet ──┤
//	      0                       next
//
// Messages enter at the end, one after the other. What is under way costs no more
// than the hub's credit.
type sendQueue struct {
	maxCost int           // cost of the line at which Send waits
	resend  bool          // Options.Resend
	sendMu  chan struct{} // capacity 1: held by the one who sends
	notFull chan struct{} // capacity 1: the line has become shorter, or has ended
	flushed chan struct{} // capacity 1: everything is under way

	mu               sync.Mutex
	conn             *conn      // nil: there is none now
	limits           sendLimits // of the hub
	pumping          bool       // somebody puts on its way what may go
	seq              uint64
	hubGeneration    int  // how many hubs there were: what names ids of one means nothing to the next
	grantedIDsValid  bool // but for ids that both grant
	queue            []pendingSend
	next             int
	cost             int  // of the line
	inFlight         int  // of what is under way
	creditBlocked    bool // the credit was used up, and less than half of it is back
	queueFull        bool // Send waits for room in the line
	probed           bool // the hub was asked what it has taken, and has not said more since: see blocked
	pendingReports   int  // under way that have no report
	calls            map[uint64]*call
	timers           sync.WaitGroup  // of calls
	attempts         socket.Attempts // to send the first message that the hub has not had
	lastConnDuration time.Duration   // how long the last connection was there
	retainedCost     int             // cost of what calls keep to send it again
	removals         uint64          // changes when the line becomes shorter
	sealed           bool            // BYE is about to be said
	err              error           // why nothing more is taken
}

// sendLimits are what WELCOME says about sending.
type sendLimits struct {
	credit, maxReports int

	receiverCost int // what each receiver of a SEND costs of the credit

	grantsIDs bool // ids up to wire.MaxGrantedID mean the same clients in another epoch

	// maxReportTimeout is the longest report timeout that a SEND may name; 0: it must name none.
	maxReportTimeout time.Duration
}

// cost is what p costs of the credit.
func (l *sendLimits) cost(p *pendingSend) int { return p.length + int(p.receivers)*l.receiverCost }

// maxRetained is how much may be kept to be sent again, in bytes, before Send waits
// for reports.
const maxRetained = 16 << 20

// pendingSend is a SEND. It holds a reference to its buffer.
type pendingSend struct {
	seq         uint64
	cost        int // as the hub counts
	buffer      *body.Buffer
	length      int
	sockOptions *socket.Options // of one with a time to live; nil: it has none
	receivers   uint8
	wantsReport bool // there is to be a report
	maybeSent   bool // a hub that has forgotten the client may have had it

	// What the SEND asks for beyond what any hub understands. It is written into the frame when the
	// hub is known.
	options       wire.Options
	reportTimeout time.Duration // 0: none is named
}

// applyLimits writes into the frame what a hub with these terms understands. Nobody else may have the
// frame.
func (p *pendingSend) applyLimits(limits *sendLimits) {
	if p.reportTimeout > 0 {
		wire.PutSendOptions(p.buffer.Bytes(), p.options.WithReportTimeout(min(p.reportTimeout, limits.maxReportTimeout)))
	}
}

// namesAssigned reports whether the message is to somebody whose id the hub has assigned: any id, but
// for those that can be granted if ids are.
func (p *pendingSend) namesAssigned(granted bool) bool {
	m, err := wire.ParseSend(p.buffer.Bytes()[wire.HeaderSize:p.length])
	if err != nil {
		return true // which cannot be
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
	retained  pendingSend // to be sent again; without a buffer: it is in the line, or will not be

	timer *time.Timer // of one with a time to live; nil: it has none
	fate  wire.Fate   // that timer is to report for all receivers, because the hub will not; 0: none
}

func (q *sendQueue) init(maxCost int, resend bool) {
	q.maxCost, q.resend = maxCost, resend
	q.sendMu, q.notFull, q.flushed = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	q.calls = make(map[uint64]*call)
}

// enqueue puts a message at the end of the line. It waits for its turn and for room
// until ctx or stop end.
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

// waitForRoom waits until there is room for one more, or it has expired: then it will not be in line for long.
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

// setCost sets what p costs. It returns the number of the hub whose ids are known, and whether there
// is room for p.
func (q *sendQueue) setCost(p *pendingSend) (hubGeneration int, fits bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p.cost = q.limits.cost(p)
	return q.hubGeneration, q.fitsLocked(p.cost)
}

// checkReportTimeout returns an error if a report timeout is over what the hub allows.
func (q *sendQueue) checkReportTimeout(timeout time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if limit := q.limits.maxReportTimeout; limit > 0 && timeout > limit {
		return &ReportTimeoutTooLongError{Timeout: timeout, Limit: limit}
	}
	return nil
}

// acquire takes a place in c.
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

// fits reports whether there is room for one more.
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

// append puts p in line. It names ids of a hub.
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
	if hubGeneration != q.hubGeneration && p.namesAssigned(q.grantedIDsValid) { // it has waited for that
		p.buffer.Release()
		return ErrSessionLost
	}
	q.seq = p.seq
	p.cost = q.limits.cost(&p) // the hub, and so the cost, may have changed while it waited for room
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

// pumpAndProbe puts on its way what may go, in its order. If somebody is about it already,
// that one does it. Then it asks the hub, as ask does.
func (q *sendQueue) pumpAndProbe() {
	if cn := q.pump(); cn != nil {
		cn.probe()
	}
}

// probeIfBlocked asks the hub what it has taken if nothing can go on before it says so, and it will not say so by itself.
func (q *sendQueue) probeIfBlocked() {
	q.mu.Lock()
	cn := q.probeTarget()
	q.mu.Unlock()
	if cn != nil {
		cn.probe()
	}
}

// pump is feed without the question, and returns where to ask it: see blocked.
func (q *sendQueue) pump() (probeConn *conn) {
	p, cn, probeConn := q.nextReady(true)
	if cn == nil {
		return probeConn
	}
	f := flushers.Get().(*socket.Flusher)
	for ; cn != nil; p, cn, probeConn = q.nextReady(false) {
		outcome := cn.sock.Offer(&socket.Batch{Buffer: p.buffer, To: p.length, Frames: 1, Options: p.sockOptions}, f) // one that is parked keeps its place
		p.buffer.Release()
		if outcome == socket.AlreadyExpired {
			q.removeUnwritten(p.seq)
		}
	}
	f.Abandon()
	flushers.Put(f)
	return probeConn
}

// probeTarget returns where to ask the hub what it has taken: the credit has no room for the next
// message, or the line has none and all of it is under way, and that is not so much that the hub
// says so by itself. Otherwise it is nil. It is called with mu held.
func (q *sendQueue) probeTarget() *conn {
	waits := q.next < len(q.queue) && q.creditBlocked || q.next == len(q.queue) && q.queueFull
	if q.conn == nil || q.pumping || q.probed || !waits || q.inFlight == 0 || q.inFlight >= q.limits.credit/ackFraction {
		return nil
	}
	q.probed = true
	return q.conn
}

// ackFraction is the part of the credit of which the hub says by itself that it has taken it (docs/PROTOCOL.md).
const ackFraction = 4

// nextReady returns the next message that may go, with a reference to its buffer, and where it goes:
// nowhere if there is none, or if somebody else is about it. Whoever has got one must ask again
// when it is on its way. Where nothing goes, blocked says whether to ask.
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

// canSend reports whether a message may go under way. After the credit was used up it waits
// until half of it is back: then many messages leave together, and the hub hands them on
// together, where they would trickle otherwise. It is called with mu held.
func (q *sendQueue) canSend(p *pendingSend) bool {
	maxInFlight := q.limits.credit
	if q.creditBlocked {
		maxInFlight /= 2
	}
	q.creditBlocked = q.inFlight > 0 && (q.inFlight+p.cost > q.limits.credit || q.inFlight > maxInFlight)
	return !q.creditBlocked && (!p.wantsReport || q.pendingReports < q.limits.maxReports)
}

// handleAck takes note that the hub has taken everything up to a seq.
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

// complete accounts for a message that leaves the line after it was under way. It
// returns its buffer unless a call keeps that. It is called with mu held.
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

// remove takes messages from..to out of the line. It is called with mu held.
func (q *sendQueue) remove(from, to int) {
	remaining := append(q.queue[:from], q.queue[to:]...)
	clear(q.queue[len(remaining):])
	q.queue = remaining
	if to > from {
		q.removals++
	}
}

// handleReport hands a report to the one who waits for it.
func (q *sendQueue) handleReport(r wire.Report) error {
	if !q.expectsReport(r.Seq, len(r.Fates)) {
		return errUnexpectedReport
	}
	c := q.removeCall(r.Seq)
	if c == nil {
		return nil // the client was closed in this moment
	}
	fates := make([]wire.Fate, len(r.Fates))
	for i, f := range r.Fates {
		fates[i] = wire.Fate(f)
	}
	q.pumpAndProbe()
	c.onReport(&Report{Seq: r.Seq, Fates: fates}, nil)
	return nil
}

// expectsReport reports whether a message to so many receivers waits for its report.
func (q *sendQueue) expectsReport(seq uint64, receivers int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.calls[seq]
	return q.err != nil || c != nil && c.receivers == receivers
}

// dropRefused takes out a message that the hub does not take. It returns who waits for
// its report, if anybody does.
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

// removeCall returns the call of a message and forgets it; nil if there is none.
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

// releaseCall accounts for a call that was under way, and is over. It returns the buffer that it has kept, if it has. It
// is called with mu held.
func (q *sendQueue) releaseCall(c *call) (kept *body.Buffer) {
	q.pendingReports--
	kept = c.retained.buffer
	if kept != nil {
		q.retainedCost -= c.retained.cost
		c.retained = pendingSend{}
	}
	return kept
}

// detach says that there is no connection now.
func (q *sendQueue) detach() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn != nil {
		q.lastConnDuration = time.Since(q.conn.openedAt)
	}
	q.conn = nil
}

// resume goes on with the hub that knows the client: it has had everything up to a
// seq, and will report on that; the rest is sent again. Of that, the first message is given up
// when it did not get through for too long: then its seq is returned, which is 0 otherwise, and the one
// who waits for its report, if anybody does.
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
	signal(q.notFull) // what is in line may cost less now
	q.pumpAndProbe()
	return undeliverable, waiter
}

// firstUnsentSeq returns the seq of the first message that is not under way; 0: there is none. It is called
// with mu held.
func (q *sendQueue) firstUnsentSeq() uint64 {
	if q.next == len(q.queue) {
		return 0
	}
	return q.queue[q.next].seq
}

// setLimits goes on by the terms of a hub. It is called with mu held.
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

// removeInFlight accounts for a message that is not under way any more. It is called with
// mu held.
func (q *sendQueue) removeInFlight(p *pendingSend) {
	q.inFlight -= p.cost
	if p.wantsReport {
		q.pendingReports--
	}
}

// restart begins with a hub that does not know the client. It returns what will not
// be sent again: calls, and how many messages without. To another hub, or one that
// was started anew, nothing is sent that names ids of the one before.
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

// requeue puts what was under way and has no report in line again. It is called with
// mu held.
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
		if i < q.next && p.wantsReport && q.calls[p.seq] == nil { // its report came before its TAKEN
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

// dropInFlight gives up what was under way, and the calls that have no report. It is
// called with mu held.
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
		if c.fate != 0 { // which its timer is about to report
			waiting[seq] = c
			continue
		}
		q.stopExpiry(c)
		failed = append(failed, c)
	}
	q.calls = waiting
	return failed, unconfirmed, free
}

// dropAssigned gives up what is in line and names ids that only the hub of before has given. It is called
// with mu held, when nothing is under way.
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
		case c != nil && c.fate == 0: // otherwise its timer reports it, or has
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

// close ends it. It returns the calls that will have no report.
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

// len returns how many messages the hub has perhaps not had.
func (q *sendQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue)
}

// ackAll notes that the hub has had everything that was under way.
func (q *sendQueue) ackAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue, q.next = q.queue[q.next:], 0
}

// flush waits until everything is under way on l, and lets nothing more in. It returns false if l is over before.
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

// hasUnacked reports whether the hub has had messages of which it has not said that it
// has taken them, and a number that changes when it does.
func (q *sendQueue) hasUnacked() (yes bool, removals uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.conn != nil && q.next > 0, q.removals
}
