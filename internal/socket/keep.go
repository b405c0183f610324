package socket

import (
	"math"
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
)

// Number makes the outbox keep counted frames after they are written, until they
// are acknowledged. While window bytes are kept, nothing is written but what overtakes
// and the rest of what was begun. It must be called before any counted frame is offered.
// skips says that the peer knows SKIP: what expires before it is sent again is replaced by
// one SKIP for each frame. Otherwise it is sent again as it is, for the numbers must go on.
func (o *Outbox) Number(window int, skips bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ledger = &ledger{window: window, skips: skips}
}

// acknowledged holds what Acknowledge needs, of which a connection that is idle needs nothing.
var acknowledged = sync.Pool{New: func() any { return new(settled) }}

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
	out := acknowledged.Get().(*settled)
	l.settle(out)
	restart := o.unpause()
	o.mu.Unlock()
	out.end()
	acknowledged.Put(out)
	if restart {
		go o.queue.run() // flush, as in Dispatch.Flush
	}
	return true
}

// Kept is what an outbox keeps for its peer: what a warden compares to tell one that
// acknowledges from one that does not. SKIPs take no memory.
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
		go o.queue.run() // flush, as in Dispatch.Flush
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

// Resumable reports whether Move will succeed for a peer that has come that far, and how many of
// the frames that its application has not had were written before and may reach it a second
// time. No peer has come beyond what the connection was given. From then on memory that is short
// does not take them back. o must be detached, and Wait must have returned.
func (o *Outbox) Resumable(at Position) (again int, ok bool) {
	var out settled
	defer out.end()
	o.mu.Lock()
	defer o.mu.Unlock()
	l, upTo := o.ledger, at.Received
	if o.closed || l == nil || !l.detached || l.moved != nil || upTo < l.acked || at.Read < upTo || at.Read > l.written+o.mayHave() {
		return 0, false
	}
	l.claimed = max(l.claimed, upTo)
	l.settle(&out)
	again = int(l.written - l.acked)
	if q := o.queue; q != nil && q.sent > 0 && q.segments[q.head].counted && upTo <= l.written {
		again++
	}
	l.promised = l.whole(at.Read)
	return again, l.promised
}

// Move hands everything that the peer has not had to another outbox, for which
// Resumable must have said that it can be. to must be numbered, and known to nobody
// yet; it may hold what is to be sent before. Afterwards, whatever is offered to o
// goes to that one. It returns false when one of them was closed meanwhile.
//
// What the peer has read is not sent again, nor is what is too large for it by now: a SKIP takes
// its place. With giveUp, which is for a peer that knows SKIP, the same holds for the message
// behind what it has read, which must be Begun. omitted counts what is too large, wherever it
// waited, and what is given up.
func (o *Outbox) Move(to *Outbox, at Position, giveUp bool, d *Dispatch) (omitted Omitted, ok bool) {
	var out settled
	defer out.end()
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.ledger
	if o.closed {
		return omitted, false
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.closed {
		return omitted, false
	}
	l.handOver(to)
	if o.queue != nil {
		o.queue.handOver(to, at.Received-l.acked, &out)
	}
	omitted = to.omit(at, giveUp, &out)
	o.queue, o.weight = nil, 0
	for _, w := range o.parked {
		if w.piece.Counted {
			omitted.Oversized += to.parkFitting(w, &out).Oversized
			continue
		}
		s := segmentOf(&w.piece) // it answers a request of the old connection
		out.discard(&s, Unsent)
		out.tickets = append(out.tickets, w.ticket)
	}
	o.parked = nil
	if len(to.parked) > 0 {
		to.startClock()
	}
	to.admit(&out)
	l.moved = to
	to.wake(d)
	return omitted, true
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

// The following are called with mu held.

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

// mayHave returns how many counted frames that are queued the peer may have: those that were
// written to a connection before, the one of which this one has taken a part, and those in a write
// that has failed.
func (o *Outbox) mayHave() uint64 {
	if o.queue == nil {
		return 0
	}
	return o.queue.mayHave()
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
