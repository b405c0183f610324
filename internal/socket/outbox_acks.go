package socket

import (
	"math"
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
)

// EnableAcks makes the outbox keep counted frames after they are written, until they
// are acknowledged. While window bytes are kept, nothing is written but what overtakes
// and the rest of what was begun. It must be called before any counted frame is offered.
// skips says that the peer knows SKIP: what expires before it is sent again is replaced by
// one SKIP for each frame. Otherwise it is sent again as it is, for the numbers must go on.
func (o *Outbox) EnableAcks(window int, skipSupported bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retransmit = &retransmitQueue{window: window, skipSupported: skipSupported}
}

// completionsPool holds what Acknowledge needs, of which a connection that is idle needs nothing.
var completionsPool = sync.Pool{New: func() any { return new(completions) }}

// Acknowledge takes note that the peer has had the first upTo counted frames. It
// returns false when it cannot have had so many. One goroutine at a time may call
// it.
func (o *Outbox) Acknowledge(upTo uint64) bool {
	o.mu.Lock()
	rq := o.retransmit
	if rq == nil || upTo > rq.written && upTo > rq.written+o.queuedReliable() {
		o.mu.Unlock()
		return false
	}
	rq.largestAcked = max(rq.largestAcked, upTo)
	out := completionsPool.Get().(*completions)
	rq.processAcks(out)
	restart := o.unblockWindow()
	o.mu.Unlock()
	out.run()
	completionsPool.Put(out)
	if restart {
		go o.queue.flushFn() // flush, as in Flusher.Flush
	}
	return true
}

// AckStats is what an outbox keeps for its peer: what a warden compares to tell one that
// acknowledges from one that does not. SKIPs take no memory.
type AckStats struct {
	Written    uint64 // written so far
	Acked      uint64 // those of them that the peer has acknowledged
	FreedBytes uint64 // bytes of memory that this has freed
	HeldBytes  int    // of memory that is held
}

// AckStats returns what is kept now. It is zero for an outbox that is not numbered.
func (o *Outbox) AckStats() AckStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	rq := o.retransmit
	if rq == nil {
		return AckStats{}
	}
	return AckStats{rq.written, rq.acked, rq.freedBytes, rq.heldBytes}
}

// DropUnacked gives up the memory of what is kept for the peer. If it comes back without
// having had all of it, Move will say so.
func (o *Outbox) DropUnacked() {
	o.mu.Lock()
	if o.retransmit == nil || o.retransmit.resuming {
		o.mu.Unlock()
		return
	}
	var out completions
	o.retransmit.dropBuffers(&out)
	restart := o.unblockWindow()
	o.mu.Unlock()
	out.run()
	if restart {
		go o.queue.flushFn() // flush, as in Flusher.Flush
	}
}

// DisableAcks says that nobody hears acknowledgements any more: what is kept is given up, and
// writing does not wait for them.
func (o *Outbox) DisableAcks() {
	o.mu.Lock()
	if o.retransmit != nil {
		o.retransmit.window = math.MaxInt
	}
	o.mu.Unlock()
	o.DropUnacked()
}

// Detach ends the writing and keeps everything: what is queued and will be offered
// waits for Move. It returns false when the outbox does not keep what is written,
// or is closed. The connection must be closed by the caller, by Sever or CloseWithFrame.
func (o *Outbox) Detach() bool {
	_, ok := o.detach()
	return ok
}

// detach is Detach, and reports whether it was the first one.
func (o *Outbox) detach() (first, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.retransmit == nil {
		return false, false
	}
	first = !o.retransmit.detached
	o.retransmit.detached = true
	if !o.flushing {
		o.notifyIdle()
	}
	return first, true
}

// midFrame reports whether the connection has taken a part of a frame.
func (o *Outbox) midFrame() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue != nil && o.queue.headSent > 0
}

// Resumable reports whether Move will succeed for a peer that has come that far, and how many of
// the frames that its application has not had were written before and may reach it a second
// time. No peer has come beyond what the connection was given. From then on memory that is short
// does not take them back. o must be detached, and Wait must have returned.
func (o *Outbox) Resumable(pos Position) (resends int, ok bool) {
	var out completions
	defer out.run()
	o.mu.Lock()
	defer o.mu.Unlock()
	rq, upTo := o.retransmit, pos.Acked
	if o.closed || rq == nil || !rq.detached || rq.movedTo != nil || upTo < rq.acked || pos.Read < upTo || pos.Read > rq.written+o.possiblyReceived() {
		return 0, false
	}
	rq.largestAcked = max(rq.largestAcked, upTo)
	rq.processAcks(&out)
	resends = int(rq.written - rq.acked)
	if q := o.queue; q != nil && q.headSent > 0 && q.segments[q.head].reliable && upTo <= rq.written {
		resends++
	}
	rq.resuming = rq.canResend(pos.Read)
	return resends, rq.resuming
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
func (o *Outbox) Move(to *Outbox, pos Position, giveUp bool, fl *Flusher) (omitted Omitted, ok bool) {
	var out completions
	defer out.run()
	o.mu.Lock()
	defer o.mu.Unlock()
	rq := o.retransmit
	if o.closed {
		return omitted, false
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.closed {
		return omitted, false
	}
	rq.moveTo(to)
	if o.queue != nil {
		o.queue.moveTo(to, pos.Acked-rq.acked, &out)
	}
	omitted = to.omit(pos, giveUp, &out)
	o.queue, o.weight = nil, 0
	for _, send := range o.blocked {
		if send.batch.Reliable {
			omitted.TooLarge += to.addBlockedFitting(send, &out).TooLarge
			continue
		}
		s := segmentOf(&send.batch) // it answers a request of the old connection
		out.discard(&s, EventLost)
		out.waiters = append(out.waiters, send.waiter)
	}
	o.blocked = nil
	if len(to.blocked) > 0 {
		to.resetStallTimer()
	}
	to.unblockSends(&out)
	rq.movedTo = to
	to.scheduleFlush(fl)
	return omitted, true
}

// UnackedAccounts is Accounts for what is kept until it is acknowledged.
func (o *Outbox) UnackedAccounts(to []*body.Account) []*body.Account {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.retransmit == nil {
		return to
	}
	return appendAccounts(to, o.retransmit.unacked[o.retransmit.head:])
}

// The following are called with mu held.

// unblockWindow reports whether a flusher is to be started that had to pause.
func (o *Outbox) unblockWindow() bool {
	rq := o.retransmit
	if !rq.windowBlocked || rq.windowBytes >= rq.window || o.closed {
		return false
	}
	rq.windowBlocked = false
	if o.queue == nil || rq.detached || o.flushing {
		return false
	}
	o.flushing = true
	return true
}

// possiblyReceived returns how many counted frames that are queued the peer may have: those that were
// written to a connection before, the one of which this one has taken a part, and those in a write
// that has failed.
func (o *Outbox) possiblyReceived() uint64 {
	if o.queue == nil {
		return 0
	}
	return o.queue.possiblyReceived()
}

// queuedReliable returns how many counted frames are queued.
func (o *Outbox) queuedReliable() (n uint64) {
	if o.queue == nil {
		return 0
	}
	for _, s := range o.queue.segments[o.queue.head:] {
		if s.reliable {
			n += uint64(s.frames)
		}
	}
	return n
}
