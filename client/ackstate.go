package client

// position is a position in the stream of reliable frames of a session: DELIVER, REPORT and
// SKIP.
type position struct {
	frames uint64
	bytes  uint64 // on the wire
}

// ackState decides when to send the cumulative ACK of received messages, and with which value.
// It has no lock of its own: inbox.mu guards it.
type ackState struct {
	conn            *conn    // for ACKs; nil while disconnected
	window          int      // how far the hub sends ahead, in bytes
	read            position // after the last frame that was read
	deliveredAtTick position // delivered to the application at the last tick
	received        position // received by the application
	acked           position // the largest position of an ACK
	urgent          bool     // a sender waits for a report on an unacknowledged message
	moreBuffered    bool     // more bytes can be read at once
	pending         bool     // an ACK is queued and not written
}

// maxUrgent is the maximum number of urgent messages that are received without an ACK while
// messages arrive without a pause.
const maxUrgent = 64

// onRead accounts for one read; read is the position after it. urgent says that a sender waits
// for a report, and more that more bytes can be read at once. onRead reports whether the read
// had reliable frames.
func (a *ackState) onRead(read position, urgent, more bool) (counted bool) {
	counted = read != a.read
	a.read = read
	a.urgent, a.moreBuffered = a.urgent || urgent, more
	return counted
}

// due reports whether an ACK must be sent at once. empty says that no message is unread.
func (a *ackState) due(empty bool) bool {
	n := a.received.frames - a.acked.frames
	switch {
	case n == 0 || a.pending || a.conn == nil:
		return false
	case a.received.bytes-a.acked.bytes >= uint64(a.window/2):
		return true
	default:
		return a.urgent && (n >= maxUrgent || empty && !a.moreBuffered)
	}
}

// onTick marks as received what was delivered before the last tick; delivered is the position
// up to which frames are delivered now. due says that an ACK must be sent, and more that
// another tick is needed.
func (a *ackState) onTick(delivered position) (due, more bool) {
	before := a.deliveredAtTick.frames
	if before > a.received.frames {
		a.received = a.deliveredAtTick
	}
	a.deliveredAtTick = delivered
	if a.conn == nil {
		return false, false
	}
	return before > a.acked.frames && !a.pending, a.deliveredAtTick.frames > a.acked.frames
}

// nextAck returns the value of the next ACK and the connection for it, or a nil conn if there
// is nothing to acknowledge. The ACK is pending then.
func (a *ackState) nextAck(empty bool) (upTo uint64, cn *conn) {
	if a.conn == nil || a.pending || a.received.frames == a.acked.frames {
		return 0, nil
	}
	a.acked, a.pending, a.urgent = a.received, true, a.urgent && !empty
	return a.acked.frames, a.conn
}

// detach stops ACKs until attach. It returns the number of received frames, which HELLO tells
// the hub.
func (a *ackState) detach() (received uint64) {
	a.conn = nil
	a.acked = a.received
	return a.acked.frames
}

// attach continues on a new connection, from zero with a new session.
func (a *ackState) attach(cn *conn, window int, newSession bool) {
	if newSession {
		*a = ackState{}
	}
	a.conn, a.window, a.pending = cn, window, false
}
