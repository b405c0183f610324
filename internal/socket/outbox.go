package socket

import (
	"math"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// progressBytes is how much a stalled receiver must take to be alive when that
// is less than one frame (the design's number).
const progressBytes = 64 << 10

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Piece is a run of whole frames in a buffer. It holds no reference: whoever
// makes a Piece keeps its buffer alive while it is offered.
type Piece struct {
	Buffer     *body.Buffer
	From, To   int
	Frames     int
	Deliveries int // how many of the frames carry a message

	// Counted says that the frames are kept until the peer has acknowledged them, if
	// the outbox keeps any: see Number. All frames of a piece are counted, or none.
	Counted bool

	Terms *Terms // nil: none
	At    int    // which receiver of Terms this outbox is: what its Tracker is told
}

// Outcome is what an outbox did with a piece.
type Outcome int

// The outcomes of Offer.
const (
	Queued Outcome = iota // it is in the queue
	Parked                // the queue is full: Dispatch.Wait waits for its turn
	Gone                  // the outbox is closed
	Full                  // the queue is full, and the piece does not wait for room
)

// parked is a piece that waits for room, in the order of its coming.
type parked struct {
	piece  Piece
	ticket *ticket
}

// Outbox is what waits to be written to a connection: a queue that is bounded in
// bytes. Small pieces are copied into its tail, large ones are held by reference,
// and many leave in one write.
//
// An empty outbox has no goroutine and no memory. The offer that makes it
// non-empty leads to a flusher, which ends when the queue is dry or the
// connection is closed; a little for one receiver alone is written without one
// (Dispatch.Flush). All methods may be called concurrently.
type Outbox struct {
	// Static after init.
	base    *base
	attempt func(fd uintptr) bool // tryWrite, bound once so that a write allocates nothing
	run     func()                // flush, bound once so that starting it allocates nothing

	// Owned by the flusher.
	writing *queue // what the next attempt writes from
	direct  bool   // whoever flushes must not wait
	n       int    // outcome of the last attempt
	err     error
	dryAt   int64 // when it last ran dry, in ns since 1970, if Quiet asks for it

	mu       sync.Mutex
	ledger   *ledger  // nil: what is written is done with
	queue    *queue   // nil while dry
	weight   int      // bytes queued, with what their bookkeeping costs
	parked   []parked // first come, first served
	flushing bool     // a flusher runs, or somebody has promised to start it
	closed   bool
	sealed   bool          // Terms.Last was taken
	timed    bool          // the timer runs
	draining int32         // how many wait for the end: see Hurry
	dry      chan struct{} // closed when the flusher ends; nil: nobody asked
	sent     int64         // bytes written
	dried    uint64        // how often the queue ran dry
	timer    *time.Timer   // of the stall check
	mark     time.Time     // last progress while somebody waits
	moved    int           // bytes written since
}

func (o *Outbox) init(b *base) {
	o.base = b
	o.attempt, o.run = o.tryWrite, o.flush
}

// Offer queues the frames of p, or parks them when the queue is full, unless the
// piece has other terms. d gathers what the caller has to do afterwards: Flush at
// the end of its batch, and Wait when anything was parked.
func (o *Outbox) Offer(p *Piece, d *Dispatch) Outcome {
	small := p.To-p.From <= copyMost && p.Terms == nil
	if small {
		d.prepare()
	}
	o = o.lock()
	outcome := o.offer(p, small, d)
	o.mu.Unlock()
	if len(d.settled.buffers) > 0 {
		d.settled.end()
	}
	return outcome
}

// Number makes the outbox keep counted frames after they are written, until they
// are acknowledged. While window bytes are kept, nothing is written but what overtakes
// and the rest of what was begun. It must be called before any counted frame is offered.
func (o *Outbox) Number(window int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ledger = &ledger{window: window}
}

// Acknowledge takes note that the peer has had the first upTo counted frames. It
// returns false when it cannot have had so many. One goroutine at a time may call
// it.
func (o *Outbox) Acknowledge(upTo uint64) bool {
	o.mu.Lock()
	l := o.ledger
	if l == nil || upTo > l.written && upTo > l.written+o.ahead() {
		o.mu.Unlock()
		return false
	}
	l.claimed = max(l.claimed, upTo)
	l.settle(&l.settled)
	restart := o.unpause()
	o.mu.Unlock()
	l.settled.end()
	if restart {
		go o.run() // flush, as in Dispatch.Flush
	}
	return true
}

// Kept is what an outbox keeps for its peer: what a warden compares to tell one that
// acknowledges from one that does not.
type Kept struct {
	Frames       uint64 // written so far
	Acknowledged uint64 // those of them that the peer has acknowledged
	Freed        uint64 // bytes of memory that this has freed
	Bytes        int    // of memory that is held
}

// Kept returns what is kept now. It is zero for an outbox that is not numbered.
func (o *Outbox) Kept() Kept {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.ledger
	if l == nil {
		return Kept{}
	}
	return Kept{l.written, l.acked, l.freed, l.held}
}

// DropKept gives up the memory of what is kept for the peer. If it comes back without
// having had all of it, Move will say so.
func (o *Outbox) DropKept() {
	o.mu.Lock()
	if o.ledger == nil || o.ledger.promised {
		o.mu.Unlock()
		return
	}
	var out settled
	o.ledger.forget(&out)
	restart := o.unpause()
	o.mu.Unlock()
	out.end()
	if restart {
		go o.run() // flush, as in Dispatch.Flush
	}
}

// LetGo says that nobody hears acknowledgements any more: what is kept is given up, and
// writing does not wait for them.
func (o *Outbox) LetGo() {
	o.mu.Lock()
	if o.ledger != nil {
		o.ledger.window = math.MaxInt
	}
	o.mu.Unlock()
	o.DropKept()
}

// Detach ends the writing and keeps everything: what is queued and will be offered
// waits for Move. It returns false when the outbox does not keep what is written,
// or is closed. The connection must be closed by the caller, by Sever or LastWords.
func (o *Outbox) Detach() bool {
	_, ok := o.detach()
	return ok
}

// detach is Detach, and reports whether it was the first one.
func (o *Outbox) detach() (first, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.ledger == nil {
		return false, false
	}
	first = !o.ledger.detached
	o.ledger.detached = true
	if !o.flushing {
		o.signal()
	}
	return first, true
}

// midFrame reports whether the connection has taken a part of a frame.
func (o *Outbox) midFrame() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue != nil && o.queue.sent > 0
}

// Resumable reports whether Move will succeed for a peer that has had the first
// upTo counted frames, and how many of the frames behind them were written before
// and may reach it a second time. From then on memory that is short does not take them
// back. o must be detached, and Wait must have returned.
func (o *Outbox) Resumable(upTo uint64) (again int, ok bool) {
	var out settled
	defer out.end()
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.ledger
	if o.closed || l == nil || !l.detached || l.moved != nil || upTo < l.acked || upTo > l.written+o.ahead() {
		return 0, false
	}
	l.claimed = max(l.claimed, upTo)
	l.settle(&out)
	again = int(l.written - l.acked)
	if q := o.queue; q != nil && q.sent > 0 && q.segments[q.head].counted && upTo <= l.written {
		again++
	}
	l.promised = l.whole()
	return again, l.promised
}

// Move hands everything that the peer has not had to another outbox, for which
// Resumable must have said that it can be. to must be numbered, and known to nobody
// yet; it may hold what is to be sent before. Afterwards, whatever is offered to o
// goes to that one. It returns false when one of them was closed meanwhile.
func (o *Outbox) Move(to *Outbox, upTo uint64, d *Dispatch) bool {
	var out settled
	defer out.end()
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.ledger
	if o.closed {
		return false
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.closed {
		return false
	}
	l.handOver(to)
	if o.queue != nil {
		o.queue.handOver(to, upTo-l.acked, &out)
	}
	o.queue, o.weight = nil, 0
	for _, w := range o.parked {
		if w.piece.Counted {
			to.parked = append(to.parked, w)
			continue
		}
		s := segmentOf(&w.piece) // it answers a request of the old connection
		out.discard(&s, Unsent)
		out.tickets = append(out.tickets, w.ticket)
	}
	o.parked = nil
	if len(to.parked) > 0 {
		to.clock()
	}
	to.admit(&out)
	l.moved = to
	to.wake(d)
	return true
}

// Retract takes back what was offered with these terms and is not being written.
func (o *Outbox) Retract(terms *Terms, why Progress) {
	var out settled
	o = o.lock()
	own := func(s *segment) bool { return s.terms == terms }
	if o.queue != nil {
		o.weight -= o.queue.remove(why, &out, own)
	}
	rest := o.parked[:0]
	for _, w := range o.parked {
		if w.piece.Terms == terms {
			s := segmentOf(&w.piece)
			out.discard(&s, why)
			out.tickets = append(out.tickets, w.ticket)
		} else {
			rest = append(rest, w)
		}
	}
	clear(o.parked[len(rest):])
	o.parked = rest
	o.admit(&out)
	o.mu.Unlock()
	out.end()
}

// Pulse is where an outbox stands: what a warden compares to tell a slow
// receiver from a busy one.
type Pulse struct {
	Sent   int64  // bytes written so far
	Dried  uint64 // how often it had nothing left to write
	Busy   bool   // something is queued
	Queued int    // bytes of that, with what its bookkeeping costs
}

// Pulse returns where the outbox stands.
func (o *Outbox) Pulse() Pulse {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Pulse{Sent: o.sent, Dried: o.dried, Busy: o.queue != nil, Queued: o.weight}
}

// Accounts appends those who are charged for what is queued, some perhaps more
// than once.
func (o *Outbox) Accounts(to []*body.Account) []*body.Account {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.queue == nil {
		return to
	}
	return accounts(to, o.queue.segments[o.queue.head:])
}

// KeptAccounts is Accounts for what is kept until it is acknowledged.
func (o *Outbox) KeptAccounts(to []*body.Account) []*body.Account {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ledger == nil {
		return to
	}
	return accounts(to, o.ledger.kept[o.ledger.head:])
}

func accounts(to []*body.Account, segments []segment) []*body.Account {
	var last *body.Account
	for _, s := range segments {
		if s.buffer == nil {
			continue
		}
		if a := s.buffer.Account(); a != nil && a != last {
			to = append(to, a)
			last = a
		}
	}
	return to
}

// Drain waits until everything queued is written and reports whether it was. It
// gives up when the outbox is closed, by a stalled peer for instance, or when
// stop is.
func (o *Outbox) Drain(stop <-chan struct{}) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hurry()
	defer func() { o.draining-- }()
	for stopped := false; o.busy() && !o.closed && !stopped; {
		dry := o.whenDry()
		o.mu.Unlock()
		select {
		case <-dry: // or somebody has offered more since
		case <-stop:
			stopped = true
		}
		o.mu.Lock()
	}
	return !o.closed && o.queue == nil
}

// Hurry says that somebody waits until the outbox is dry, so that a peer that takes nothing of it stalls. That
// ends with a call of relax.
func (o *Outbox) Hurry() (relax func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hurry()
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.draining--
	}
}

// hurry is Hurry; draining is to be counted down again.
func (o *Outbox) hurry() {
	if o.queue != nil {
		o.press()
	}
	o.draining++
}

// Dry returns a channel that is closed when all that was queued is written, or the outbox is closed. What is
// parked is not waited for.
func (o *Outbox) Dry() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || !o.busy() {
		return closedChannel
	}
	return o.whenDry()
}

// Wait returns when no flusher runs any more. The outbox must be closed, or detached
// and its connection severed.
func (o *Outbox) Wait() {
	o.mu.Lock()
	if !o.flushing {
		o.mu.Unlock()
		return
	}
	dry := o.whenDry()
	o.mu.Unlock()
	<-dry
}

// withdraw takes a parked piece back. It returns false when the piece is queued,
// sent or lost already.
func (o *Outbox) withdraw(t *ticket) bool {
	o = o.lock()
	defer o.mu.Unlock()
	for i := range o.parked {
		if o.parked[i].ticket == t {
			o.parked[i].piece.Buffer.Release()
			o.parked = append(o.parked[:i], o.parked[i+1:]...)
			return true
		}
	}
	return false
}

func (o *Outbox) isClosed() bool {
	o = o.lock()
	defer o.mu.Unlock()
	return o.closed
}

// lock locks the outbox, or the one that it has moved to, and returns that.
func (o *Outbox) lock() *Outbox {
	for {
		o.mu.Lock()
		if o.ledger == nil || o.ledger.moved == nil {
			return o
		}
		next := o.ledger.moved
		o.mu.Unlock()
		o = next
	}
}

// The following are called with mu held.

// offer is Offer.
func (o *Outbox) offer(p *Piece, small bool, d *Dispatch) Outcome {
	if o.closed || o.sealed {
		return Gone
	}
	o.sealed = p.Terms != nil && p.Terms.Last
	if len(o.parked) > 0 || o.full() {
		switch ifFull := p.Terms.ifFull(); {
		case ifFull == Park:
			o.park(p, d)
			return Parked
		case ifFull == Insist, ifFull == Overtake:
		case ifFull == Refuse || !o.displace(p.Terms.Owner, &d.settled):
			return Full
		default:
			o.admit(&d.settled) // whoever waits has come before
			if len(o.parked) > 0 || o.full() {
				o.park(p, d)
				return Parked
			}
		}
	}
	switch {
	case small:
		o.copyIn(p, d)
	case p.Terms.ifFull() == Overtake:
		o.overtake(p)
	default:
		o.refer(p)
	}
	o.wake(d)
	return Queued
}

// park has p wait for room.
func (o *Outbox) park(p *Piece, d *Dispatch) {
	o.press()
	p.Buffer.Retain()
	o.parked = append(o.parked, parked{*p, d.promise()})
}

// displace makes room by giving up the oldest pieces of owner that came on such
// terms. It reports whether there is some.
func (o *Outbox) displace(owner any, out *settled) bool {
	if o.queue == nil {
		return false
	}
	room := !o.full()
	o.weight -= o.queue.remove(Displaced, out, func(s *segment) bool {
		if room || s.terms.ifFull() != Displace || s.terms.Owner != owner {
			return false
		}
		room = true // one for one: segments are few, and may be of any size
		return true
	})
	return !o.full()
}

// wake sees to it that there is a flusher, if there may be one.
func (o *Outbox) wake(d *Dispatch) {
	if !o.flushing && !o.ledger.rests() && o.queue != nil {
		o.flushing = true
		d.wake = append(d.wake, o)
	}
}

// unpause reports whether a flusher is to be started that had to pause.
func (o *Outbox) unpause() bool {
	l := o.ledger
	if !l.paused || l.bytes >= l.window || o.closed {
		return false
	}
	l.paused = false
	if o.queue == nil || l.detached || o.flushing {
		return false
	}
	o.flushing = true
	return true
}

// ahead returns how many counted frames are queued.
func (o *Outbox) ahead() (n uint64) {
	if o.queue == nil {
		return 0
	}
	for _, s := range o.queue.segments[o.queue.head:] {
		if s.counted {
			n += uint64(s.frames)
		}
	}
	return n
}

// busy reports whether something is still to be written and can be.
func (o *Outbox) busy() bool {
	return o.flushing || o.queue != nil && (o.ledger == nil || !o.ledger.detached)
}

// signal tells those who wait for the end of the flusher.
func (o *Outbox) signal() {
	if o.dry != nil {
		close(o.dry)
		o.dry = nil
	}
}

func (o *Outbox) whenDry() <-chan struct{} {
	if o.dry == nil {
		o.dry = make(chan struct{})
	}
	return o.dry
}

// copyIn copies p behind what is queued. Without memory for a further block, p
// is held by reference after all.
func (o *Outbox) copyIn(p *Piece, d *Dispatch) {
	if o.queue != nil && o.queue.copyIn(p) {
		o.weight += p.To - p.From
		return
	}
	if d.spare == nil {
		o.refer(p)
		return
	}
	block := d.spare
	d.spare = nil
	o.push(&segment{
		buffer: block, to: copy(block.Bytes(), p.Buffer.Bytes()[p.From:p.To]),
		frames: p.Frames, deliveries: p.Deliveries, block: true, counted: p.Counted,
	})
	o.weight += p.To - p.From
}

// full reports whether senders have to wait: for bytes, or because so many pieces
// are queued that their bookkeeping would be what takes the memory.
func (o *Outbox) full() bool {
	return o.weight >= o.base.config.OutboxBytes ||
		o.queue != nil && len(o.queue.segments)-o.queue.head >= segmentsMost
}

// refer queues p by reference.
func (o *Outbox) refer(p *Piece) {
	p.Buffer.Retain()
	s := segmentOf(p)
	o.push(&s)
	o.weight += s.weight()
}

// overtake queues p by reference before what is queued, and sees to it that it is written
// although the peer must acknowledge something before the rest is.
func (o *Outbox) overtake(p *Piece) {
	p.Buffer.Retain()
	s := segmentOf(p)
	o.open()
	o.queue.overtake(&s)
	o.weight += s.weight()
	if o.ledger != nil {
		o.ledger.paused = false // the flusher finds out again
	}
}

func segmentOf(p *Piece) segment {
	return segment{
		buffer: p.Buffer, from: p.From, to: p.To, frames: p.Frames, deliveries: p.Deliveries,
		counted: p.Counted, terms: p.Terms, at: int16(p.At),
	}
}

func (o *Outbox) push(s *segment) {
	o.open()
	o.queue.push(s)
}

// open makes sure that there is a queue.
func (o *Outbox) open() {
	if o.queue == nil {
		o.queue = queues.Get().(*queue)
	}
}

// admit queues parked pieces for as long as there is room.
func (o *Outbox) admit(out *settled) {
	n := 0
	for n < len(o.parked) && !o.full() {
		s := segmentOf(&o.parked[n].piece)
		if s.expires() && s.expired(time.Now().UnixNano()) {
			out.discard(&s, Expired)
		} else {
			out.events = s.note(out.events, Entered, s.frames)
			o.push(&s)
			o.weight += s.weight()
		}
		out.tickets = append(out.tickets, o.parked[n].ticket)
		n++
	}
	if n > 0 {
		rest := copy(o.parked, o.parked[n:])
		clear(o.parked[rest:])
		o.parked = o.parked[:rest]
		if rest == 0 {
			o.parked = nil
		}
	}
}

// pressed reports whether somebody waits for this outbox to move.
func (o *Outbox) pressed() bool { return len(o.parked) > 0 || o.draining > 0 }

// press starts the clock of the stall check when somebody is about to wait and
// nobody did before. A timer that still runs from the last time is left to find
// out that it came too early.
func (o *Outbox) press() {
	if !o.pressed() {
		o.clock()
	}
}

// clock starts it.
func (o *Outbox) clock() {
	if o.base.config.StallTimeout <= 0 {
		return
	}
	o.mark, o.moved = time.Now(), 0
	switch {
	case o.timed:
	case o.timer == nil:
		o.timer = time.AfterFunc(o.base.config.StallTimeout, o.check)
	default:
		o.timer.Reset(o.base.config.StallTimeout)
	}
	o.timed = true
}

// progress notes what a write has moved.
func (o *Outbox) progress(done Tally) {
	o.sent += int64(done.Bytes)
	if !o.pressed() {
		return
	}
	o.moved += done.Bytes
	if done.Frames > 0 || o.moved >= progressBytes {
		o.mark, o.moved = time.Now(), 0
	}
}

// check runs when the stall time may be over. While nobody waits the receiver
// may take as long as it likes, and the timer ends.
func (o *Outbox) check() {
	o.mu.Lock()
	if o.closed || !o.pressed() {
		o.timed = false
		o.mu.Unlock()
		return
	}
	if left := time.Until(o.mark.Add(o.base.config.StallTimeout)); left > 0 {
		o.timer.Reset(left)
		o.mu.Unlock()
		return
	}
	o.mu.Unlock()
	o.fail(ErrStalled)
}
