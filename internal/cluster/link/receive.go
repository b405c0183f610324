package link

import "time"

const (
	// maxWindow is the maximum number of bytes by which a frame can be ahead of what was
	// received. It is far above what callers have under way.
	maxWindow = 64 << 20

	// maxUnackedFrames is the number of frames with data that are acknowledged without AckDelay.
	// TCP acknowledges every second segment; frames are up to 45 times as large.
	maxUnackedFrames = 4

	// minAnswerInterval is the minimum time between answers to stale frames, in µs.
	minAnswerInterval = int64(10 * time.Millisecond / time.Microsecond)

	// minGapInterval is the minimum time after which the receiver asks for the same bytes again,
	// in µs.
	minGapInterval = int64(time.Millisecond / time.Microsecond)
)

// Handle receives a frame of the other hub, without Prefix. It does not keep frame. Any bytes are
// permitted; a frame that makes no sense is counted and dropped. Handle calls OnData, OnBreak and
// OnEstablished, and does not wait for Send.
func (l *Link) Handle(frame []byte) {
	l.callbacks.Lock()
	defer l.callbacks.Unlock()
	h, payload, ok := parseFrame(frame)
	l.mu.Lock()
	l.stats.FramesIn++
	var data []byte
	if ok = ok && h.sender != l.id; !ok {
		l.stats.Invalid++
	} else if !l.ended && l.matches(&h) {
		data = l.receive(&h, payload)
	}
	l.mu.Unlock()
	l.dispatch()
	if len(data) > 0 {
		l.deliver(h.generation, data)
	}
}

// deliver passes the next bytes of the other side's stream on, unless the generation has ended
// meanwhile.
func (l *Link) deliver(generation uint64, data []byte) {
	if l.Generation() != generation {
		return
	}
	err := l.config.OnData(data)
	l.mu.Lock()
	switch {
	case l.generation != generation || l.ended:
	case err != nil:
		l.begin(generation+1, err)
	default:
		l.acceptData(len(data))
	}
	l.mu.Unlock()
	l.dispatch()
}

// The following are called with mu held.

// matches applies the rules of generations. It reports whether the frame belongs to the current
// generation, which the frame can have begun.
func (l *Link) matches(h *header) bool {
	forOther := h.receiver != 0 && h.receiver != l.id
	switch {
	case forOther && h.generation >= l.generation:
		l.stats.Stale++
		l.begin(h.generation+1, ErrStateLost)
		return false
	case h.generation > l.generation && h.receiver == l.id:
		l.stats.Invalid++ // this link never was in that generation
		return false
	case h.generation > l.generation:
		l.begin(h.generation, ErrPeerRestarted)
		return true
	case h.generation < l.generation || l.peer != 0 && h.sender != l.peer:
		l.stats.Stale++
		l.answerStale()
		return false
	}
	return true
}

// answerStale sends a frame of this generation, unless one was sent just before.
func (l *Link) answerStale() {
	if now := l.Now(); now >= l.timing.answerAt {
		l.timing.answerAt = now + minAnswerInterval
		l.sendFrame()
	}
}

// sendFrame has a frame sent, even without payload.
func (l *Link) sendFrame() {
	l.pending.frame = true
	l.signal()
}

// receive handles a frame of the current generation. It returns the bytes for OnData.
func (l *Link) receive(h *header, payload []byte) (data []byte) {
	if h.ack > l.queue.maxSent || h.offset > l.received+maxWindow {
		l.stats.Invalid++
		return nil
	}
	now := l.Now()
	if l.peer == 0 {
		l.establish(h.sender, now)
	}
	if h.receiver == 0 || h.flags&flagAsk != 0 {
		l.sendFrame()
	}
	l.clock.add(now, h.sentAt)
	if h.sentAt > l.pending.echo {
		l.pending.echo, l.timing.echoAt = h.sentAt, now
	}
	if h.echo != 0 {
		l.rtt.add(now, h.echo, int64(h.echoDelay))
	}
	if h.ack > l.queue.acked {
		l.handleAck(h, now)
	}
	if h.flags&flagGap != 0 {
		l.handleGap(h, now)
	}
	return l.nextData(h.offset, payload, now)
}

// establish begins to send without limits to the other link.
func (l *Link) establish(peer uint32, now int64) {
	l.peer = peer
	l.events = append(l.events, event{})
	l.pending.probing = false
	l.restartRetry(now)
	l.signal()
}

// handleAck releases what the other side has received. If the link has gone back because no answer
// came, and this answer is from before and misses nothing, then nothing was lost but time: the link
// goes on where it was (as TCP does with the Eifel algorithm, RFC 3522). Otherwise it sends all
// again.
func (l *Link) handleAck(h *header, now int64) {
	l.stats.Acked += h.ack - l.queue.acked
	l.queue.ack(h.ack)
	l.restartRetry(now)
	if l.pending.probing {
		l.pending.probing = false
		if h.echo < l.timing.wentBackAt && h.flags&flagGap == 0 {
			l.queue.seek(l.queue.maxSent)
		}
		l.signal()
	}
}

// handleGap goes back to the first byte that the other side has not received. The other side can
// ask several times until the bytes arrive. Therefore it counts only if it has seen a frame from
// after the last time that the sender went back.
func (l *Link) handleGap(h *header, now int64) {
	if h.ack == l.queue.acked && l.queue.outstanding() && h.echo >= l.timing.wentBackAt {
		l.goBack(now)
		l.signal()
	}
}

// goBack sends again what is not acknowledged.
func (l *Link) goBack(now int64) {
	l.queue.seek(l.queue.acked)
	l.timing.wentBackAt = now
}

// nextData returns the part of a payload that continues the stream. Otherwise it answers, if the
// other side does not know what was received.
func (l *Link) nextData(offset uint64, payload []byte, now int64) []byte {
	switch end := offset + uint64(len(payload)); {
	case offset > l.received:
		l.stats.Gaps++
		l.askForGap(now)
		return nil
	case len(payload) == 0:
		return nil
	case end <= l.received:
		l.stats.Duplicates++
		l.sendFrame()
		return nil
	default:
		return payload[l.received-offset:]
	}
}

// askForGap asks for the missing bytes: at once, or one round trip after it has asked for the same
// bytes, if they are still missing then.
func (l *Link) askForGap(now int64) {
	t := &l.timing
	if t.gapAt != 0 {
		return
	}
	t.gapAt = now
	if l.pending.gapAsked == l.received && t.gapAskedAt != 0 {
		t.gapAt = max(now, t.gapAskedAt+max(minGapInterval, l.rtt.smoothed))
	}
	l.arm(t.gapAt)
}

// acceptData has n more bytes of the other side's stream acknowledged.
func (l *Link) acceptData(n int) {
	l.received += uint64(n)
	l.stats.Received += uint64(n)
	p, t := &l.pending, &l.timing
	t.gapAt = 0
	p.unackedFrames++
	switch {
	case p.unackedFrames >= maxUnackedFrames:
		l.sendFrame()
	case t.ackAt == 0:
		t.ackAt = l.Now() + l.config.AckDelay.Microseconds()
		l.arm(t.ackAt)
	}
}
