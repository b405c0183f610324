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

// outgoing is what Send has taken in version 2 and the hub has not: it outlives
// connections, and is sent again on the next one as far as the hub has not had it.
//
//	line  ├── under way on link ──┼── not yet ──┤
//	      0                       next
//
// Messages enter at the end, one after the other. What is under way costs no more
// than the hub's credit.
type outgoing struct {
	limit  int           // cost of the line at which Send waits
	resend bool          // Options.Resend
	turn   chan struct{} // capacity 1: held by the one who sends
	room   chan struct{} // capacity 1: the line has become shorter, or has ended
	flown  chan struct{} // capacity 1: everything is under way

	mu       sync.Mutex
	link     *link // nil: there is none now
	terms    terms // of the hub
	feeding  bool  // somebody puts on its way what may go
	seq      uint64
	hubs     int  // how many hubs there were: what names ids of one means nothing to the next
	granted  bool // but for ids that both grant
	line     []parcel
	next     int
	cost     int  // of the line
	owed     int  // of what is under way
	spent    bool // the credit was used up, and less than half of it is back
	lineFull bool // Send waits for room in the line
	asked    bool // the hub was asked what it has taken, and has not said more since: see blocked
	reports  int  // under way that have no report
	calls    map[uint64]*call
	timers   sync.WaitGroup  // of calls
	attempts socket.Attempts // to send the first message that the hub has not had
	lasted   time.Duration   // how long the last connection was there
	retained int             // cost of what calls keep to send it again
	moved    uint64          // changes when the line becomes shorter
	sealed   bool            // BYE is about to be said
	err      error           // why nothing more is taken
}

// terms are what WELCOME says about sending.
type terms struct {
	credit, reports int

	receiverCost int // what each receiver of a SEND costs of the credit

	grantsIDs bool // ids up to wire.MaxGrantedID mean the same clients in another epoch

	// maxReportTimeout is the longest report timeout that a SEND may name; 0: it must name none.
	maxReportTimeout time.Duration
}

// cost is what p costs of the credit.
func (t *terms) cost(p *parcel) int { return p.length + int(p.receivers)*t.receiverCost }

// retainedMost is how much may be kept to be sent again, in bytes, before Send waits
// for reports.
const retainedMost = 16 << 20

// parcel is a SEND. It holds a reference to its buffer.
type parcel struct {
	seq       uint64
	cost      int // as the hub counts
	buffer    *body.Buffer
	length    int
	terms     *socket.Terms // of one with a time to live; nil: it has none
	receivers uint8
	reported  bool // there is to be a report
	before    bool // a hub that has forgotten the client may have had it

	// What the SEND asks for beyond what any hub understands. It is written into the frame when the
	// hub is known.
	options       wire.Options
	reportTimeout time.Duration // 0: none is named
}

// fit writes into the frame what a hub with these terms understands. Nobody else may have the
// frame.
func (p *parcel) fit(t *terms) {
	if p.reportTimeout > 0 {
		wire.SetSendOptions(p.buffer.Bytes(), p.options.WithReportTimeout(min(p.reportTimeout, t.maxReportTimeout)))
	}
}

// namesAssigned reports whether the message is to somebody whose id the hub has assigned: any id, but
// for those that can be granted if ids are.
func (p *parcel) namesAssigned(granted bool) bool {
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
	done      func(*Report, error)
	receivers int
	parcel    parcel // to be sent again; without a buffer: it is in the line, or will not be

	timer *time.Timer // of one with a time to live; nil: it has none
	fate  wire.Fate   // that timer is to report for all receivers, because the hub will not; 0: none
}

func (o *outgoing) init(limit int, resend bool) {
	o.limit, o.resend = limit, resend
	o.turn, o.room, o.flown = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	o.calls = make(map[uint64]*call)
}

// add puts a message at the end of the line. It waits for its turn and for room
// until ctx or stop end.
func (o *outgoing) add(ctx context.Context, stop <-chan struct{}, to []uint64, message []byte, options *SendOptions, c *call) error {
	p := parcel{
		receivers: uint8(len(to)), reported: c != nil, terms: options.terms(),
		options: options.wire(), reportTimeout: options.ReportTimeout,
	}
	if err := await(ctx, stop, o.turn); err != nil {
		return err
	}
	defer func() { <-o.turn }()
	p.length = wire.SendLen(len(to), len(message))
	hub, room := o.price(&p)
	p.seq = o.seq + 1
	if p.terms != nil {
		p.terms.Tracker = expiring{o, p.seq}
	}
	if !room {
		if err := o.awaitRoom(ctx, stop, &p); err != nil {
			return err
		}
	}
	p.buffer = body.Get(p.length)
	wire.AppendSend(p.buffer.Bytes()[:0], p.seq, options.wire(), options.ttl(), to, message)
	return o.append(p, c, hub)
}

// awaitRoom waits until there is room for one more, or it has expired: then it will not be in line for long.
func (o *outgoing) awaitRoom(ctx context.Context, stop <-chan struct{}, p *parcel) error {
	var late <-chan time.Time
	if p.terms != nil {
		late = time.After(p.left())
	}
	for !o.fits(p.cost) {
		o.ask()
		select {
		case <-o.room:
		case <-late:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-stop:
			return ErrClosed
		}
	}
	return nil
}

// price sets what p costs. It returns the number of the hub whose ids are known, and whether there
// is room for p.
func (o *outgoing) price(p *parcel) (hub int, room bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p.cost = o.terms.cost(p)
	return o.hubs, o.hasRoom(p.cost)
}

// checkReportTimeout returns an error if a report timeout is over what the hub allows.
func (o *outgoing) checkReportTimeout(timeout time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if limit := o.terms.maxReportTimeout; limit > 0 && timeout > limit {
		return &ReportTimeoutError{Timeout: timeout, Limit: limit}
	}
	return nil
}

// await takes a place in c.
func await(ctx context.Context, stop <-chan struct{}, c chan<- struct{}) error {
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
func (o *outgoing) fits(cost int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.hasRoom(cost)
}

// hasRoom is fits. It is called with mu held.
func (o *outgoing) hasRoom(cost int) bool {
	o.lineFull = len(o.line) > 0 && o.cost+cost > o.limit
	return o.err != nil || !o.lineFull && o.retained < retainedMost
}

// append puts p in line. It names ids of a hub.
func (o *outgoing) append(p parcel, c *call, hub int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		p.buffer.Release()
		return o.err
	}
	if o.sealed {
		p.buffer.Release()
		return ErrClosed
	}
	if hub != o.hubs && p.namesAssigned(o.granted) { // it has waited for that
		p.buffer.Release()
		return ErrForgotten
	}
	o.seq = p.seq
	p.cost = o.terms.cost(&p) // the hub, and so the cost, may have changed while it waited for room
	o.cost += p.cost
	o.line = append(o.line, p)
	if c != nil {
		o.calls[p.seq] = c
	}
	if p.terms != nil {
		o.arm(&p, c)
	}
	return nil
}

// feed puts on its way what may go, in its order. If somebody is about it already,
// that one does it. Then it asks the hub, as ask does.
func (o *outgoing) feed() {
	if l := o.pump(); l != nil {
		l.probe()
	}
}

// ask asks the hub what it has taken if nothing can go on before it says so, and it will not say so by itself.
func (o *outgoing) ask() {
	o.mu.Lock()
	l := o.blocked()
	o.mu.Unlock()
	if l != nil {
		l.probe()
	}
}

// pump is feed without the question, and returns where to ask it: see blocked.
func (o *outgoing) pump() (ask *link) {
	p, l, ask := o.pick(true)
	if l == nil {
		return ask
	}
	d := dispatches.Get().(*socket.Dispatch)
	for ; l != nil; p, l, ask = o.pick(false) {
		outcome := l.conn.Offer(&socket.Piece{Buffer: p.buffer, To: p.length, Frames: 1, Terms: p.terms}, d) // one that is parked keeps its place
		p.buffer.Release()
		if outcome == socket.Late {
			o.unwritten(p.seq)
		}
	}
	d.Leave()
	dispatches.Put(d)
	return ask
}

// blocked returns where to ask the hub what it has taken: the credit has no room for the next
// message, or the line has none and all of it is under way, and that is not so much that the hub
// says so by itself. Otherwise it is nil. It is called with mu held.
func (o *outgoing) blocked() *link {
	waits := o.next < len(o.line) && o.spent || o.next == len(o.line) && o.lineFull
	if o.link == nil || o.feeding || o.asked || !waits || o.owed == 0 || o.owed >= o.terms.credit/takenPart {
		return nil
	}
	o.asked = true
	return o.link
}

// takenPart is the part of the credit of which the hub says by itself that it has taken it (docs/PROTOCOL.md).
const takenPart = 4

// pick returns the next message that may go, with a reference to its buffer, and where it goes:
// nowhere if there is none, or if somebody else is about it. Whoever has got one must ask again
// when it is on its way. Where nothing goes, blocked says whether to ask.
func (o *outgoing) pick(first bool) (p parcel, l, ask *link) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if first && o.feeding {
		return parcel{}, nil, nil
	}
	o.dropLate()
	o.feeding = o.link != nil && o.next < len(o.line) && o.may(&o.line[o.next])
	if !o.feeding {
		if o.next == len(o.line) {
			signal(o.flown)
		}
		return parcel{}, nil, o.blocked()
	}
	p = o.line[o.next]
	p.fit(&o.terms)
	p.buffer.Retain()
	o.next++
	o.owed += p.cost
	if p.reported {
		o.reports++
	}
	return p, o.link, nil
}

// may reports whether a message may go under way. After the credit was used up it waits
// until half of it is back: then many messages leave together, and the hub hands them on
// together, where they would trickle otherwise. It is called with mu held.
func (o *outgoing) may(p *parcel) bool {
	most := o.terms.credit
	if o.spent {
		most /= 2
	}
	o.spent = o.owed > 0 && (o.owed+p.cost > o.terms.credit || o.owed > most)
	return !o.spent && (!p.reported || o.reports < o.terms.reports)
}

// taken takes note that the hub has taken everything up to a seq.
func (o *outgoing) taken(upTo uint64) error {
	var free []*body.Buffer
	o.mu.Lock()
	if upTo > o.seq {
		o.mu.Unlock()
		return errTaken
	}
	n := 0
	for n < o.next && o.line[n].seq <= upTo {
		if b := o.settle(&o.line[n]); b != nil {
			free = append(free, b)
		}
		n++
	}
	o.shift(0, n)
	o.next -= n
	o.asked = o.asked && n == 0
	o.mu.Unlock()
	for _, b := range free {
		b.Release()
	}
	if n > 0 {
		signal(o.room)
		o.feed()
	}
	return nil
}

// settle accounts for a message that leaves the line after it was under way. It
// returns its buffer unless a call keeps that. It is called with mu held.
func (o *outgoing) settle(p *parcel) *body.Buffer {
	o.owed -= p.cost
	o.cost -= p.cost
	if c := o.calls[p.seq]; c != nil && p.reported && o.resend {
		c.parcel = *p
		o.retained += p.cost
		return nil
	}
	return p.buffer
}

// shift takes messages from..to out of the line. It is called with mu held.
func (o *outgoing) shift(from, to int) {
	rest := append(o.line[:from], o.line[to:]...)
	clear(o.line[len(rest):])
	o.line = rest
	if to > from {
		o.moved++
	}
}

// report hands a report to the one who waits for it.
func (o *outgoing) report(r wire.Report) error {
	if !o.expects(r.Seq, len(r.Fates)) {
		return errReport
	}
	c := o.finish(r.Seq)
	if c == nil {
		return nil // the client was closed in this moment
	}
	fates := make([]wire.Fate, len(r.Fates))
	for i, f := range r.Fates {
		fates[i] = wire.Fate(f)
	}
	o.feed()
	c.done(&Report{Seq: r.Seq, Fates: fates}, nil)
	return nil
}

// expects reports whether a message to so many receivers waits for its report.
func (o *outgoing) expects(seq uint64, receivers int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.calls[seq]
	return o.err != nil || c != nil && c.receivers == receivers
}

// refused takes out a message that the hub does not take. It returns who waits for
// its report, if anybody does.
func (o *outgoing) refused(seq uint64) *call {
	defer signal(o.flown)
	var free *body.Buffer
	o.mu.Lock()
	i, found := slices.BinarySearchFunc(o.line[:o.next], seq, func(p parcel, seq uint64) int { return cmp.Compare(p.seq, seq) })
	if found {
		o.owed -= o.line[i].cost
		o.cost -= o.line[i].cost
		free = o.line[i].buffer
		o.shift(i, i+1)
		o.next--
	}
	o.mu.Unlock()
	if found {
		free.Release()
	}
	c := o.finish(seq)
	signal(o.room)
	o.feed()
	return c
}

// finish returns the call of a message and forgets it; nil if there is none.
func (o *outgoing) finish(seq uint64) *call {
	o.mu.Lock()
	c := o.calls[seq]
	if c == nil {
		o.mu.Unlock()
		return nil
	}
	delete(o.calls, seq)
	o.disarm(c)
	kept := o.letGo(c)
	o.mu.Unlock()
	if kept != nil {
		kept.Release()
		signal(o.room)
	}
	return c
}

// letGo accounts for a call that was under way, and is over. It returns the buffer that it has kept, if it has. It
// is called with mu held.
func (o *outgoing) letGo(c *call) (kept *body.Buffer) {
	o.reports--
	kept = c.parcel.buffer
	if kept != nil {
		o.retained -= c.parcel.cost
		c.parcel = parcel{}
	}
	return kept
}

// detach says that there is no connection now.
func (o *outgoing) detach() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.link != nil {
		o.lasted = time.Since(o.link.began)
	}
	o.link = nil
}

// resume goes on with the hub that knows the client: it has had everything up to a
// seq, and will report on that; the rest is sent again. Of that, the first message is given up
// when it did not get through for too long: then its seq is returned, which is 0 otherwise, and the one
// who waits for its report, if anybody does.
func (o *outgoing) resume(l *link, t terms, had uint64) (stuck uint64, one *call) {
	o.mu.Lock()
	o.adopt(t)
	next := o.next
	for ; o.next > 0 && o.line[o.next-1].seq > had; o.next-- {
		o.recall(&o.line[o.next-1])
	}
	var free *body.Buffer
	if begun := o.next < next; o.attempts.Failed(o.firstSeq(), begun, o.lasted) {
		p := o.line[o.next]
		if stuck, one, free = p.seq, o.calls[p.seq], p.buffer; one != nil {
			o.disarm(one)
			delete(o.calls, p.seq)
		}
		o.cost -= p.cost
		o.shift(o.next, o.next+1)
	}
	o.link = l
	o.mu.Unlock()
	if free != nil {
		free.Release()
	}
	signal(o.room) // what is in line may cost less now
	o.feed()
	return stuck, one
}

// firstSeq returns the seq of the first message that is not under way; 0: there is none. It is called
// with mu held.
func (o *outgoing) firstSeq() uint64 {
	if o.next == len(o.line) {
		return 0
	}
	return o.line[o.next].seq
}

// adopt goes on by the terms of a hub. It is called with mu held.
func (o *outgoing) adopt(t terms) {
	again := t.receiverCost != o.terms.receiverCost
	o.terms, o.spent, o.asked = t, false, false
	if !again {
		return
	}
	o.cost, o.owed, o.retained = 0, 0, 0
	for i := range o.line {
		p := &o.line[i]
		p.cost = t.cost(p)
		o.cost += p.cost
		if i < o.next {
			o.owed += p.cost
		}
	}
	for _, c := range o.calls {
		if p := &c.parcel; p.buffer != nil {
			p.cost = t.cost(p)
			o.retained += p.cost
		}
	}
}

// recall accounts for a message that is not under way any more. It is called with
// mu held.
func (o *outgoing) recall(p *parcel) {
	o.owed -= p.cost
	if p.reported {
		o.reports--
	}
}

// restart begins with a hub that does not know the client. It returns what will not
// be sent again: calls, and how many messages without. To another hub, or one that
// was started anew, nothing is sent that names ids of the one before.
func (o *outgoing) restart(l *link, t terms, another bool) (failed []*call, unconfirmed int) {
	o.mu.Lock()
	o.granted = o.terms.grantsIDs && t.grantsIDs
	o.adopt(t)
	var free []*body.Buffer
	if o.resend {
		free = o.requeue()
	} else {
		failed, unconfirmed, free = o.abandon()
	}
	if another {
		o.hubs++
		f, n, b := o.forget()
		failed, unconfirmed, free = append(failed, f...), unconfirmed+n, append(free, b...)
	}
	o.next, o.owed, o.reports = 0, 0, 0
	o.attempts = socket.Attempts{}
	o.link = l
	o.mu.Unlock()
	for _, b := range free {
		b.Release()
	}
	signal(o.room)
	o.feed()
	return failed, unconfirmed
}

// requeue puts what was under way and has no report in line again. It is called with
// mu held.
func (o *outgoing) requeue() (free []*body.Buffer) {
	var again []parcel
	for _, c := range o.calls {
		if c.parcel.buffer != nil {
			c.parcel.before = true
			again = append(again, c.parcel)
			o.cost += c.parcel.cost
			c.parcel = parcel{}
		}
	}
	o.retained = 0
	for i, p := range o.line {
		if i < o.next && p.reported && o.calls[p.seq] == nil { // its report came before its TAKEN
			o.cost -= p.cost
			free = append(free, p.buffer)
			continue
		}
		p.before = p.before || i < o.next
		again = append(again, p)
	}
	o.line = again
	slices.SortFunc(o.line, func(a, b parcel) int { return cmp.Compare(a.seq, b.seq) })
	return free
}

// abandon gives up what was under way, and the calls that have no report. It is
// called with mu held.
func (o *outgoing) abandon() (failed []*call, unconfirmed int, free []*body.Buffer) {
	for i := range o.line[:o.next] {
		p := &o.line[i]
		o.cost -= p.cost
		free = append(free, p.buffer)
		if !p.reported {
			unconfirmed++
		}
	}
	o.shift(0, o.next)
	waiting := make(map[uint64]*call, len(o.calls))
	for _, p := range o.line {
		if c := o.calls[p.seq]; c != nil {
			waiting[p.seq] = c
			delete(o.calls, p.seq)
		}
	}
	for seq, c := range o.calls {
		if c.fate != 0 { // which its timer is about to report
			waiting[seq] = c
			continue
		}
		o.disarm(c)
		failed = append(failed, c)
	}
	o.calls = waiting
	return failed, unconfirmed, free
}

// forget gives up what is in line and names ids that only the hub of before has given. It is called
// with mu held, when nothing is under way.
func (o *outgoing) forget() (failed []*call, unconfirmed int, free []*body.Buffer) {
	kept := o.line[:0]
	for _, p := range o.line {
		if !p.namesAssigned(o.granted) {
			kept = append(kept, p)
			continue
		}
		o.cost -= p.cost
		free = append(free, p.buffer)
		c := o.calls[p.seq]
		switch {
		case !p.reported:
			unconfirmed++
		case c != nil && c.fate == 0: // otherwise its timer reports it, or has
			o.disarm(c)
			delete(o.calls, p.seq)
			failed = append(failed, c)
		}
	}
	clear(o.line[len(kept):])
	o.line = kept
	o.moved++
	return failed, unconfirmed, free
}

// close ends it. It returns the calls that will have no report.
func (o *outgoing) close(err error) (failed []*call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return nil
	}
	o.err, o.link = err, nil
	for _, c := range o.calls {
		o.disarm(c)
		failed = append(failed, c)
	}
	clear(o.calls)
	signal(o.room)
	return failed
}

// left returns how many messages the hub has perhaps not had.
func (o *outgoing) left() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.line)
}

// had notes that the hub has had everything that was under way.
func (o *outgoing) had() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.line, o.next = o.line[o.next:], 0
}

// fly waits until everything is under way on l, and lets nothing more in. It returns false if l is over before.
func (o *outgoing) fly(l *link, stop <-chan struct{}) bool {
	for {
		o.mu.Lock()
		gone, flown := o.link != l, o.next == len(o.line) && !o.feeding
		o.sealed = o.sealed || flown && !gone
		o.mu.Unlock()
		if gone || flown {
			return !gone
		}
		select {
		case <-o.flown:
		case <-l.over:
			return false
		case <-stop:
			return false
		}
	}
}

// unsure reports whether the hub has had messages of which it has not said that it
// has taken them, and a number that changes when it does.
func (o *outgoing) unsure() (yes bool, moved uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.link != nil && o.next > 0, o.moved
}
