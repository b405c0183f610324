package client

import (
	"context"
	"sync"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// messageOverhead is the cost of an unread message in addition to its body, in bytes: its entry
// in the inbox, and its share of the buffer.
const messageOverhead = 128

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
	// Static after init.
	notEmpty     chan struct{}  // capacity 1: there is a message or an error
	notFull      chan struct{}  // capacity 1: bytes fell below maxBytes
	scheduleTick func()         // causes a call of tick; called without mu
	ackOptions   outbox.Options // of ACK frames

	// Guarded by mu.
	mu         sync.Mutex
	maxBytes   int // at which reading pauses; 0: no limit
	messages   []entry
	head       int
	bytes      int
	err        error // why no more messages come
	discarding bool  // new messages are dropped, and count neither as delivered nor as received
	ack        ackState
}

func (b *inbox) init(maxBytes int, scheduleTick func()) {
	b.maxBytes, b.scheduleTick = maxBytes, scheduleTick
	b.ackOptions = trackedOptions(b.onAckWritten)
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
	idle := b.delivered() == b.ack.received // no delivered message is unreceived
	b.messages = append(b.messages, messages...)
	for i := range messages {
		b.bytes += len(messages[i].Body) + messageOverhead
	}
	if len(messages) > 0 {
		signal(b.notEmpty)
	}
	counted := b.ack.onRead(read, urgent, more)
	if idle {
		b.ack.received = b.delivered() // frames before the first message need no receiver
	}
	hasRoom := b.maxBytes == 0 || b.bytes < b.maxBytes
	due := b.ack.due(b.empty())
	b.mu.Unlock()
	if due {
		b.sendAck()
	} else if counted {
		b.scheduleTick()
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
	due := b.ack.due(b.empty())
	if !b.empty() {
		ok = true
		m = b.messages[b.head].Message
		b.messages[b.head] = entry{}
		b.head++
		b.adjustBytes(-len(m.Body) - messageOverhead)
	} else {
		err = b.err
	}
	if b.empty() {
		b.messages, b.head = b.messages[:0], 0
	}
	if b.err != nil || !b.empty() {
		signal(b.notEmpty)
	}
	b.mu.Unlock()
	if due {
		b.sendAck()
	} else if m.unixMicros != 0 {
		b.scheduleTick()
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
	case !b.empty():
		return b.messages[b.head].before
	}
	return b.ack.read
}

// empty reports whether no message is unread. It is called with mu held.
func (b *inbox) empty() bool { return b.head == len(b.messages) }

// tick marks as received what was delivered before the last tick, and sends the ACK that is due
// then. It reports whether another tick is needed.
func (b *inbox) tick() (more bool) {
	b.mu.Lock()
	due, more := b.ack.onTick(b.delivered())
	b.mu.Unlock()
	if due {
		b.sendAck()
	}
	return more
}

// sendAck sends the cumulative ACK of the received messages, if there is something to
// acknowledge.
func (b *inbox) sendAck() {
	b.mu.Lock()
	upTo, cn := b.ack.nextAck(b.empty())
	b.mu.Unlock()
	if cn != nil {
		cn.sendFrame(wire.AppendAck(nil, upTo), &b.ackOptions)
	}
}

// onAckWritten is called when an ACK has been written or lost.
func (b *inbox) onAckWritten() {
	b.mu.Lock()
	b.ack.pending = false
	due := b.ack.due(b.empty())
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
	return b.ack.detach(), b.ack.read
}

// attach continues on a new connection, from zero with a new session. The window of the hub
// replaces maxBytes. attach returns the position after the last frame that was read.
func (b *inbox) attach(cn *conn, window int, newSession bool) position {
	b.mu.Lock()
	b.maxBytes = 0
	b.ack.attach(cn, window, newSession)
	if newSession {
		for i := b.head; i < len(b.messages); i++ {
			b.messages[i].before = position{}
		}
	}
	read, due := b.ack.read, b.ack.due(b.empty())
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
