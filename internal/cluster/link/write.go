package link

import (
	"math"
	"time"
)

// Run sends frames until stop is closed. Then it ends the streams for the last time, with ErrEnded
// as the error of OnBreak, releases all buffers, and returns. No frame follows that begins after
// stop is closed. The caller owns its goroutine.
func (l *Link) Run(stop <-chan struct{}) {
	defer l.end()
	frame := make([]byte, 0, l.config.MaxFrame)
	frame = append(frame, l.config.Prefix...)
	for !isClosed(stop) {
		l.dispatchDue()
		s, due := l.compose(frame)
		if due {
			l.handleSent(&s, l.config.Send(s.frame))
			continue // another one may be due
		}
		select {
		case <-stop:
		case <-l.wake:
		}
	}
}

// isClosed reports whether stop is closed.
func isClosed(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// end is the end of Run.
func (l *Link) end() {
	l.mu.Lock()
	l.begin(l.generation, ErrEnded)
	l.ended = true
	l.timer.Stop()
	l.mu.Unlock()
	l.dispatchDue()
}

// dispatchDue calls the callbacks that are due.
func (l *Link) dispatchDue() {
	l.mu.Lock()
	due := len(l.events) > 0
	l.mu.Unlock()
	if due {
		l.callbacks.Lock()
		defer l.callbacks.Unlock()
		l.dispatch()
	}
}

// sending is a frame that is being sent.
type sending struct {
	frame       []byte
	generation  uint64
	offset, end uint64 // the part of the stream
	maxSent     uint64 // of the queue, before
}

// compose encodes the next frame behind Prefix. due is false if there is none. Then the timer
// signals when there will be one.
func (l *Link) compose(prefix []byte) (s sending, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.Now()
	if now < l.timing.sendAfter {
		l.arm(l.timing.sendAfter)
		return s, false
	}
	l.checkTimes(now)
	n := l.sendable()
	if n == 0 && !l.pending.frame {
		l.arm(l.deadline())
		return s, false
	}
	s = sending{generation: l.generation, offset: l.queue.next, end: l.queue.next + uint64(n), maxSent: l.queue.maxSent}
	s.frame = l.queue.send(l.appendHeader(prefix, now), n)
	l.countSent(&s, now)
	return s, true
}

// handleSent handles the result of Send.
func (l *Link) handleSent(s *sending, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.stats.FramesOut++
		return
	}
	l.stats.SendErrors++
	l.timing.sendAfter = l.Now() + l.config.SendRetry.Microseconds()
	if l.generation != s.generation {
		return // the frame counts as sent: OnBreak has said so
	}
	l.uncountSent(s)
	l.queue.unsend(s.offset, s.maxSent)
	l.pending.frame = true // with the acknowledgement that the frame had
}

// The following are called with mu held.

// sendable returns how many bytes the next frame carries. Only one frame is sent to another side
// that has not answered.
func (l *Link) sendable() int {
	limit := l.queue.end
	if l.peer == 0 || l.pending.probing {
		limit = min(limit, l.queue.acked+uint64(l.maxPayload))
	}
	if limit <= l.queue.next {
		return 0
	}
	return int(min(limit-l.queue.next, uint64(l.maxPayload)))
}

// flags returns the flags of the frame that is sent now.
func (l *Link) flags(now int64) (flags byte) {
	if t := &l.timing; t.gapAt != 0 && now >= t.gapAt {
		l.pending.gapAsked, t.gapAskedAt, t.gapAt = l.received, now, 0
		flags |= flagGap
	}
	if l.pending.ask {
		flags |= flagAsk
	}
	return flags
}

// appendHeader appends the header of the next frame.
func (l *Link) appendHeader(p []byte, now int64) []byte {
	h := header{
		flags: l.flags(now), sender: l.id, receiver: l.peer, generation: l.generation,
		offset: l.queue.next, ack: l.received, sentAt: now,
	}
	if delay := now - l.timing.echoAt; l.pending.echo != 0 && delay <= math.MaxUint32 {
		h.echo, h.echoDelay = l.pending.echo, uint32(delay)
	}
	return appendHeader(p, &h)
}

// countSent notes that a frame is sent, which acknowledges all that was received.
func (l *Link) countSent(s *sending, now int64) {
	l.stats.Sent += l.queue.maxSent - s.maxSent
	l.stats.Resent += s.end - s.offset - (l.queue.maxSent - s.maxSent)
	p, t := &l.pending, &l.timing
	p.frame, p.ask = false, false
	p.unackedFrames = 0
	t.ackAt, t.lastSentAt = 0, now
	if t.retryAt == 0 && l.needsAnswer() {
		l.startRetry(now)
	}
}

// uncountSent takes countSent back for the payload.
func (l *Link) uncountSent(s *sending) {
	first := max(s.end, s.maxSent) - s.maxSent
	l.stats.Sent -= first
	l.stats.Resent -= s.end - s.offset - first
}

// needsAnswer reports whether the other side has something to acknowledge.
func (l *Link) needsAnswer() bool { return l.peer == 0 || l.queue.outstanding() }

// restartRetry forgets how long the link has waited. It goes on waiting if an answer is due.
func (l *Link) restartRetry(now int64) {
	l.timing.retryAt = 0
	if l.needsAnswer() {
		l.startRetry(now)
	}
}

// startRetry begins to wait for an answer.
func (l *Link) startRetry(now int64) {
	l.timing.retryAfter = max(l.config.MinRetransmit.Microseconds(), 4*l.rtt.smoothed)
	l.timing.retryAt = now + l.timing.retryAfter
}

// checkTimes has sent again what was not answered in time, and sent what is due.
func (l *Link) checkTimes(now int64) {
	p, t := &l.pending, &l.timing
	if t.retryAt != 0 && now >= t.retryAt {
		l.stats.Timeouts++
		l.goBack(now)
		p.probing = true
		p.frame = p.frame || l.peer == 0
		t.retryAfter = min(2*t.retryAfter, max(l.config.MaxRetransmit.Microseconds(), 4*l.rtt.smoothed))
		t.retryAt = now + t.retryAfter
	}
	if t.ackAt != 0 && now >= t.ackAt || t.gapAt != 0 && now >= t.gapAt {
		p.frame = true
	}
	if l.peer != 0 && now-t.lastSentAt >= l.config.KeepAlive.Microseconds() {
		p.frame, p.ask = true, true
	}
}

// deadline returns when checkTimes has something to do.
func (l *Link) deadline() int64 {
	t := &l.timing
	at := t.lastSentAt + l.config.KeepAlive.Microseconds()
	if t.retryAt != 0 {
		at = min(at, t.retryAt)
	}
	if t.ackAt != 0 {
		at = min(at, t.ackAt)
	}
	if t.gapAt != 0 {
		at = min(at, t.gapAt)
	}
	return at
}

// arm has the timer signal at a time, or before.
func (l *Link) arm(at int64) {
	now := l.Now()
	if at <= now {
		l.signal()
		return
	}
	if l.timing.timerAt > now && l.timing.timerAt <= at {
		return
	}
	l.timing.timerAt = at
	l.timer.Reset(time.Duration(at-now) * time.Microsecond)
}
