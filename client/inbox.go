package client

import (
	"context"
	"sync"
)

// messageOverhead is the cost of an unread message in addition to its body, in bytes: its entry
// in the inbox, and its share of the buffer.
const messageOverhead = 128

// position is a position in the stream of reliable frames of a session: DELIVER, REPORT and
// SKIP.
type position struct {
	frames uint64
	bytes  uint64 // on the wire
}

// entry is an unread message.
type entry struct {
	Message
	before position // position before the message
}

// inbox holds the unread messages, and the state of the cumulative ACK for read ones. A message
// counts as received when its receiver asks for the next message, or after one to two ticks.
// Because of this, a process that is killed while it handles a message has not received the
// message.
type inbox struct {
	maxBytes    int           // at which reading pauses; 0: no limit
	notEmpty    chan struct{} // capacity 1: there is a message or an error
	notFull     chan struct{} // capacity 1: bytes fell below maxBytes
	sendAck     func()        // sends an ACK at once; called without mu
	scheduleAck func()        // sends an ACK at a later tick; called without mu

	// Guarded by mu.
	mu         sync.Mutex
	messages   []entry
	head       int
	bytes      int
	err        error // why no more messages come
	discarding bool  // new messages are dropped, and count neither as delivered nor as received
	ack        ackState
}

// ackState is the state of the cumulative ACK. It is guarded by inbox.mu.
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

func (b *inbox) init(maxBytes int, sendAck, scheduleAck func()) {
	b.maxBytes, b.sendAck, b.scheduleAck = maxBytes, sendAck, scheduleAck
	b.notEmpty = make(chan struct{}, 1)
	b.notFull = make(chan struct{}, 1)
}

// push adds the messages of one read; read is the position after them. urgent says that a
// sender waits for a report, and more that more bytes can be read at once. push returns false
// when the inbox is full or closed.
func (b *inbox) push(messages []entry, read position, urgent, more bool) bool {
	b.mu.Lock()
	if b.err != nil {
		b.ack.read = read
		b.mu.Unlock()
		releaseAll(messages)
		return false
	}
	if b.head > len(b.messages)/2 { // otherwise the slice would grow while the reader lags behind
		n := copy(b.messages, b.messages[b.head:])
		clear(b.messages[n:])
		b.messages, b.head = b.messages[:n], 0
	}
	a := &b.ack
	idle := b.delivered() == a.received // no delivered message is unreceived
	b.messages = append(b.messages, messages...)
	for i := range messages {
		b.bytes += len(messages[i].Body) + messageOverhead
	}
	if len(messages) > 0 {
		signal(b.notEmpty)
	}
	counted := read != a.read
	a.read = read
	a.urgent, a.moreBuffered = a.urgent || urgent, more
	if idle {
		a.received = b.delivered() // frames before the first message need no receiver
	}
	hasRoom := b.maxBytes == 0 || b.bytes < b.maxBytes
	due := b.ackDue()
	b.mu.Unlock()
	if due {
		b.sendAck()
	} else if counted {
		b.scheduleAck()
	}
	return hasRoom
}

// waitNotFull returns when there is room, or when one of the two stop channels is closed.
func (b *inbox) waitNotFull(stop ...<-chan struct{}) {
	for b.full() {
		select {
		case <-b.notFull:
		case <-stop[0]:
			return
		case <-stop[1]:
			return
		}
	}
}

func (b *inbox) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err == nil && b.maxBytes > 0 && b.bytes >= b.maxBytes
}

// removeLimit removes maxBytes: the window of the hub limits the inbox.
func (b *inbox) removeLimit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.maxBytes = 0
}

// receive returns the next message. It waits until ctx ends. A message that is there is
// returned even then. The call marks earlier messages as received.
func (b *inbox) receive(ctx context.Context) (Message, error) {
	for {
		m, ok, err := b.poll()
		if ok || err != nil {
			return m, err
		}
		select {
		case <-b.notEmpty:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

// poll is receive without waiting. If more is left, it signals the next receiver.
func (b *inbox) poll() (m Message, ok bool, err error) {
	b.mu.Lock()
	b.ack.received = b.delivered()
	due := b.ackDue()
	if b.head < len(b.messages) {
		ok = true
		m = b.messages[b.head].Message
		b.messages[b.head] = entry{}
		b.head++
		b.adjustBytes(-len(m.Body) - messageOverhead)
	} else {
		err = b.err
	}
	if b.head == len(b.messages) {
		b.messages, b.head = b.messages[:0], 0
	}
	if b.err != nil || b.head < len(b.messages) {
		signal(b.notEmpty)
	}
	b.mu.Unlock()
	if due {
		b.sendAck()
	} else if m.unixMicros != 0 {
		b.scheduleAck()
	}
	return m, ok, err
}

// adjustBytes adds bytes to b.bytes, and signals notFull. It is called with mu held.
func (b *inbox) adjustBytes(bytes int) {
	full := b.bytes >= b.maxBytes
	b.bytes += bytes
	if full && b.bytes < b.maxBytes {
		signal(b.notFull)
	}
}

// close ends the inbox with err. Messages in it can still be received.
func (b *inbox) close(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	signal(b.notEmpty)
	signal(b.notFull)
}

// discard ends the inbox with err and drops the messages in it. Delivered messages count as
// received: their receiver does not call again.
func (b *inbox) discard(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ack.received = b.delivered()
	b.ack.deliveredAtTick = b.ack.received
	b.discarding = true
	releaseAll(b.messages[b.head:])
	b.messages, b.head, b.bytes, b.err = nil, 0, 0, err
	signal(b.notEmpty)
	signal(b.notFull)
}

// delivered returns the position up to which all frames are delivered to the application. It is
// called with mu held.
func (b *inbox) delivered() position {
	switch {
	case b.discarding:
		return b.ack.received
	case b.head < len(b.messages):
		return b.messages[b.head].before
	}
	return b.ack.read
}

// ackDue reports whether an ACK must be sent at once. It is called with mu held.
func (b *inbox) ackDue() bool {
	a := &b.ack
	n := a.received.frames - a.acked.frames
	switch {
	case n == 0 || a.pending || a.conn == nil:
		return false
	case a.received.bytes-a.acked.bytes >= uint64(a.window/2):
		return true
	default:
		return a.urgent && (n >= maxUrgent || b.head == len(b.messages) && !a.moreBuffered)
	}
}

// tick marks as received what was delivered before the last tick. due says that an ACK must be
// sent, and more that another tick is needed.
func (b *inbox) tick() (due, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &b.ack
	before := a.deliveredAtTick.frames
	if before > a.received.frames {
		a.received = a.deliveredAtTick
	}
	a.deliveredAtTick = b.delivered()
	if a.conn == nil {
		return false, false
	}
	return before > a.acked.frames && !a.pending, a.deliveredAtTick.frames > a.acked.frames
}

// nextAck returns the value of the next ACK and the connection for it, or a nil conn if no ACK
// is due. The caller must send the ACK, and onAckWritten must be called when it is written or
// lost.
func (b *inbox) nextAck() (upTo uint64, cn *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &b.ack
	if a.conn == nil || a.pending || a.received.frames == a.acked.frames {
		return 0, nil
	}
	a.acked, a.pending, a.urgent = a.received, true, a.urgent && b.head < len(b.messages)
	return a.acked.frames, a.conn
}

// onAckWritten is called when an ACK has been written or lost.
func (b *inbox) onAckWritten() {
	b.mu.Lock()
	b.ack.pending = false
	due := b.ackDue()
	b.mu.Unlock()
	if due {
		b.sendAck()
	}
}

// detach stops ACKs until attach. It returns the number of received frames, which HELLO tells
// the hub, and the position after the last frame that was read. The read goroutine calls it.
func (b *inbox) detach() (received uint64, read position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &b.ack
	a.conn = nil
	a.acked = a.received
	return a.acked.frames, a.read
}

// attach continues on a new connection, from zero with a new session. It returns the position
// after the last frame that was read.
func (b *inbox) attach(cn *conn, window int, newSession bool) position {
	b.mu.Lock()
	a := &b.ack
	if newSession {
		*a = ackState{}
		for i := b.head; i < len(b.messages); i++ {
			b.messages[i].before = position{}
		}
	}
	a.conn, a.window, a.pending = cn, window, false
	read, due := a.read, b.ackDue()
	b.mu.Unlock()
	if due {
		b.sendAck()
	}
	return read
}

func releaseAll(messages []entry) {
	for i := range messages {
		messages[i].Release()
	}
}
