package socket

import (
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// progressBytes is how much a stalled receiver must take to be alive when that
// is less than one frame (the design's number).
const progressBytes = 64 << 10

// Piece is a run of whole frames in a buffer. It holds no reference: whoever
// makes a Piece keeps its buffer alive while it is offered.
type Piece struct {
	Buffer     *body.Buffer
	From, To   int
	Frames     int
	Deliveries int // how many of the frames carry a message
}

// Outcome is what an outbox did with a piece.
type Outcome int

// The outcomes of Offer.
const (
	Queued Outcome = iota // it is in the queue
	Parked                // the queue is full: Dispatch.Wait waits for its turn
	Gone                  // the outbox is closed
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
	queue    *queue   // nil while dry
	weight   int      // bytes queued, with what their bookkeeping costs
	parked   []parked // first come, first served
	flushing bool     // a flusher runs, or somebody has promised to start it
	closed   bool
	timed    bool          // the timer runs
	draining int32         // how many Drains wait for the end
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

// Offer queues the frames of p, or parks them when the queue is full. d gathers
// what the caller has to do afterwards: Flush at the end of its batch, and Wait
// when anything was parked.
func (o *Outbox) Offer(p *Piece, d *Dispatch) Outcome {
	small := p.To-p.From <= copyMost
	if small {
		d.prepare()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return Gone
	case len(o.parked) > 0 || o.full():
		o.press()
		p.Buffer.Retain()
		o.parked = append(o.parked, parked{*p, d.promise()})
		return Parked
	}
	if small {
		o.copyIn(p, d)
	} else {
		o.refer(p)
	}
	if !o.flushing {
		o.flushing = true
		d.wake = append(d.wake, o)
	}
	return Queued
}

// Pulse is where an outbox stands: what a warden compares to tell a slow
// receiver from a busy one.
type Pulse struct {
	Sent  int64  // bytes written so far
	Dried uint64 // how often it had nothing left to write
	Busy  bool   // something is queued
}

// Pulse returns where the outbox stands.
func (o *Outbox) Pulse() Pulse {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Pulse{Sent: o.sent, Dried: o.dried, Busy: o.queue != nil}
}

// Accounts appends those who are charged for what is queued, some perhaps more
// than once.
func (o *Outbox) Accounts(to []*body.Account) []*body.Account {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.queue == nil {
		return to
	}
	var last *body.Account
	for _, s := range o.queue.segments[o.queue.head:] {
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
	if o.flushing {
		o.press()
	}
	o.draining++
	defer func() { o.draining-- }()
	for stopped := false; o.flushing && !o.closed && !stopped; {
		dry := o.whenDry()
		o.mu.Unlock()
		select {
		case <-dry: // or somebody has offered more since
		case <-stop:
			stopped = true
		}
		o.mu.Lock()
	}
	return !o.closed && !o.flushing
}

// Wait returns when no flusher runs any more. The connection must be closed.
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
	o.mu.Lock()
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
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed
}

// The following are called with mu held.

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
	o.push(segment{
		buffer: block, to: copy(block.Bytes(), p.Buffer.Bytes()[p.From:p.To]),
		frames: p.Frames, deliveries: p.Deliveries, block: true,
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
	o.adopt(p)
}

// adopt queues p together with a reference that the caller gives up.
func (o *Outbox) adopt(p *Piece) {
	o.push(segment{buffer: p.Buffer, from: p.From, to: p.To, frames: p.Frames, deliveries: p.Deliveries})
	o.weight += p.To - p.From + segmentCost
}

func (o *Outbox) push(s segment) {
	if o.queue == nil {
		o.queue = queues.Get().(*queue)
	}
	o.queue.push(s)
}

// admit queues parked pieces for as long as there is room and returns their
// tickets.
func (o *Outbox) admit(tickets []*ticket) []*ticket {
	n := 0
	for n < len(o.parked) && !o.full() {
		o.adopt(&o.parked[n].piece)
		tickets = append(tickets, o.parked[n].ticket)
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
	return tickets
}

// pressed reports whether somebody waits for this outbox to move.
func (o *Outbox) pressed() bool { return len(o.parked) > 0 || o.draining > 0 }

// press starts the clock of the stall check when somebody is about to wait and
// nobody did before. A timer that still runs from the last time is left to find
// out that it came too early.
func (o *Outbox) press() {
	if o.pressed() || o.base.config.StallTimeout <= 0 {
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
