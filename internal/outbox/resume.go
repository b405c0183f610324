package outbox

import (
	"math"
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
)

// EnableAcks makes the outbox number reliable frames, and keep them after they are written
// until the peer has acknowledged them. While window bytes are kept, only priority frames and
// the rest of an unfinished frame are written. EnableAcks must be called before any reliable
// frame is offered. skipSupported says that the peer supports SKIP: a frame that expires
// before it is retransmitted is then replaced by a SKIP. Without SKIP, the expired frame is
// retransmitted, because the numbering must not have gaps.
func (o *Outbox) EnableAcks(window int, skipSupported bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retransmit = &retransmitQueue{window: window, skipSupported: skipSupported}
}

// ReleaseSpare releases the memory that the outbox keeps for later reliable frames while none is
// unacknowledged. It is for a connection that becomes idle: the next reliable frame allocates.
func (o *Outbox) ReleaseSpare() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.retransmit != nil {
		o.retransmit.releaseSpare()
	}
}

// completionsPool provides the scratch memory of Acknowledge; an idle connection holds none.
var completionsPool = sync.Pool{New: func() any { return new(completions) }}

// Acknowledge records that the peer has acknowledged the first upTo reliable frames. It
// returns false if the peer cannot have received that many. One goroutine at a time can call
// Acknowledge.
func (o *Outbox) Acknowledge(upTo uint64) bool {
	o.mu.Lock()
	rq := o.retransmit
	if rq == nil || upTo > rq.written && upTo > rq.written+o.queued().reliableFrames() {
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
		go o.queue.flushFn() // Outbox.flush: ends as in Flusher.Flush
	}
	return true
}

// AckStats is a snapshot of the unacknowledged frames of an outbox. The hub's reclaimer
// compares snapshots to tell a peer that acknowledges from a peer that does not. SKIPs take no
// memory and do not count in bytes.
type AckStats struct {
	Written    uint64 // reliable frames written so far
	Acked      uint64 // of these, frames that the peer has acknowledged
	FreedBytes uint64 // bytes of memory freed by acknowledgements so far
	HeldBytes  int    // bytes of memory held by unacknowledged frames now
}

// AckStats returns a snapshot of the unacknowledged frames. It is zero for an outbox without
// EnableAcks.
func (o *Outbox) AckStats() AckStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	rq := o.retransmit
	if rq == nil {
		return AckStats{}
	}
	return AckStats{rq.written, rq.acked, rq.freedBytes, rq.heldBytes}
}

// DropUnacked drops the memory of the unacknowledged frames. Without them, a peer that has not
// received all of these frames cannot resume: Resumable returns false. Once Resumable has
// returned true, DropUnacked has no effect until CancelResume.
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
		go o.queue.flushFn() // Outbox.flush: ends as in Flusher.Flush
	}
}

// DisableAcks stops waiting for acknowledgements: it drops the unacknowledged frames, and the
// window no longer blocks the writing.
func (o *Outbox) DisableAcks() {
	o.mu.Lock()
	if o.retransmit != nil {
		o.retransmit.window = math.MaxInt
	}
	o.mu.Unlock()
	o.DropUnacked()
}

// MidFrame reports whether the connection has accepted only a part of a frame.
func (o *Outbox) MidFrame() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue != nil && o.queue.headSent > 0
}

// WriteStarted reports whether the reliable frame with the given number carries a message, has
// been accepted by the connection at least in part, and is unacknowledged. It returns false if
// DropUnacked has dropped the frame. Number 0 is the first reliable frame of the session.
func (o *Outbox) WriteStarted(number uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	rq, q := o.retransmit, o.queue
	if rq == nil || number < rq.acked {
		return false
	}
	number -= rq.acked
	for i := rq.head; i < len(rq.unacked); i++ {
		s := &rq.unacked[i]
		if number < uint64(s.frames) {
			return s.messages && s.buffer != nil
		}
		number -= uint64(s.frames)
	}
	return number == 0 && q != nil && q.headSent > 0 && q.segments[q.head].reliable && q.segments[q.head].messages
}

// Resumable reports whether Move can succeed for a peer at the given position. resends is the
// number of frames that its application has not acknowledged, were written before, and can
// reach the peer a second time. A position beyond the frames that the connection was given is
// rejected. If Resumable returns true, DropUnacked has no effect until CancelResume. The outbox
// must be detached, and Wait must have returned.
func (o *Outbox) Resumable(pos Position) (resends int, ok bool) {
	var out completions
	defer out.run()
	o.mu.Lock()
	defer o.mu.Unlock()
	rq, upTo := o.retransmit, pos.Acked
	if o.closed || rq == nil || !rq.detached || o.moved || upTo < rq.acked || pos.Read < upTo || pos.Read > rq.written+o.queued().possiblyReceived() {
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

// CancelResume undoes the effect of Resumable on DropUnacked when Move does not follow.
func (o *Outbox) CancelResume() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.retransmit != nil {
		o.retransmit.resuming = false
	}
}

// Move hands all frames that the peer has not received to another outbox. Resumable must have
// returned true. The outbox to must have EnableAcks and must not be shared yet; it can hold
// frames to be sent before. All later offers to o go to the new outbox. Move returns false if
// one of the two outboxes was closed meanwhile.
//
// Frames that the peer has read, or that are too large for it now, are not sent: a SKIP takes
// their place. giveUp does the same with the message directly behind the frames that the peer
// has read. This message must be WriteStarted, and the peer must support SKIP. omitted counts
// the too large messages, queued or blocked, and the message that was given up.
func (o *Outbox) Move(to *Outbox, pos Position, giveUp bool, fl *Flusher) (omitted Omitted, ok bool) {
	var out completions
	defer out.run()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return omitted, false
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.closed {
		return omitted, false
	}
	o.moveQueue(to, pos.Acked, &out)
	omitted = to.omit(pos, giveUp, &out)
	if o.waiting.hasBlocked() {
		omitted.TooLarge += to.takeBlocked(o.waiting.blocked, &out)
		o.waiting.blocked = nil
		o.releaseWaiting()
	}
	to.unblockSends(&out)
	o.moved, o.retransmit.movedTo = true, to
	to.scheduleFlush(fl)
	return omitted, true
}

// UnackedAccounts is Accounts for the frames that are kept until they are acknowledged.
func (o *Outbox) UnackedAccounts(to []*body.Account) []*body.Account {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.retransmit == nil {
		return to
	}
	return appendAccounts(to, o.retransmit.unacked[o.retransmit.head:])
}

// The following are called with mu held.

// unblockWindow reports whether the caller must start a flush goroutine because the window has
// room again. It then sets flushing.
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

// queued returns the queue, or an empty queue if there is none.
func (o *Outbox) queued() *queue {
	if o.queue == nil {
		return new(queue)
	}
	return &o.queue.queue
}

// moveQueue moves the unacknowledged and the queued frames to another outbox, without those
// before number acked.
func (o *Outbox) moveQueue(to *Outbox, acked uint64, out *completions) {
	rq, target := o.retransmit, to.queue
	if target == nil {
		target = newQueue(to)
	}
	received := acked - rq.acked // of the queued frames
	rq.moveTo(&target.queue, to.retransmit)
	if o.queue != nil {
		o.queue.moveTo(&target.queue, to.retransmit, received, out)
		o.queue.free()
		o.queue, o.copied = nil, 0
	}
	switch {
	case to.queue != nil:
	case target.empty():
		target.free()
	default:
		to.queue = target
	}
}

// omit removes, after a handover, the frames that the peer has, the message that is given up,
// and the messages that are too large for the peer.
func (o *Outbox) omit(pos Position, giveUp bool, out *completions) Omitted {
	if o.queue == nil || pos.Read == pos.Acked && !giveUp && o.maxFrame == 0 {
		return Omitted{}
	}
	f := filter{
		number: pos.Acked, read: pos.Read, giveUp: giveUp, skipSupported: o.retransmit.skipSupported, maxFrame: int(o.maxFrame), out: out,
	}
	f.apply(&o.queue.queue)
	return f.omitted
}

// takeBlocked takes over the blocked sends of another outbox. It returns the number of
// messages that are too large for the peer.
func (o *Outbox) takeBlocked(blocked []blockedSend, out *completions) (tooLarge int) {
	w := o.ensureWaiting()
	for _, send := range blocked {
		if send.batch.Reliable {
			tooLarge += o.addBlockedFitting(send, out)
			continue
		}
		s := segmentOf(&send.batch) // it is a reply to a request of the old connection
		out.discard(&s, EventLost)
		out.waiters = append(out.waiters, send.waiter)
	}
	if w.hasBlocked() {
		o.restartStallTimer(w)
	}
	o.releaseWaiting()
	return tooLarge
}

// addBlockedFitting blocks a send, without the messages that are too large for the peer, and
// returns the number of these. The remaining frames wait as several sends if necessary.
func (o *Outbox) addBlockedFitting(send blockedSend, out *completions) (tooLarge int) {
	if !send.batch.Messages || !o.exceedsMaxFrame(send.batch.Buffer, send.batch.From, send.batch.To) {
		o.waiting.blocked = append(o.waiting.blocked, send)
		return 0
	}
	f := filter{maxFrame: int(o.maxFrame), out: out}
	s := segmentOf(&send.batch)
	f.add(&s)
	for i := range f.segments {
		send.waiter.pending.Add(1)
		o.waiting.blocked = append(o.waiting.blocked, blockedSend{f.segments[i].batch(), send.waiter})
	}
	out.waiters = append(out.waiters, send.waiter)
	return f.omitted.TooLarge
}
