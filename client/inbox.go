package client

import (
	"context"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// messageOverhead is what an unread message counts beyond its body, in bytes: its
// place in the inbox, and its part of the buffer that it lies in.
const messageOverhead = 128

// Message is a body that another client sent.
type Message struct {
	// Body belongs to the receiver for as long as it likes, unless it calls Release.
	// In Options.OnMessage it is lent until that returns.
	// Small bodies that came together share one piece of memory of up to 64 KiB,
	// which is freed with the last of them: clone what is to be kept for long.
	Body []byte

	// From is the id of the sender, as the hub knows it. 0: in version 1 nobody can
	// tell.
	From uint64

	// Seq is the sender's number for the message: larger than that of its message
	// before. 0: it spoke version 1, and has none.
	Seq uint64

	// With these a Message is eight words, which a function takes in registers: through memory,
	// each call would cost as much as the rest of what is done for a small message
	// (docs/decisions/0016).
	unixMicros uint64       // when the hub took it, in µs since 1970; 0: not known
	verdicts   *verdictSink // whom a verdict goes to; nil: nobody waits for one
	buffer     *body.Buffer // nil: the body is lent
}

// Time returns when the hub took the message, by its clock, to the microsecond. It
// is the zero time in version 1.
func (m Message) Time() time.Time {
	if m.unixMicros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(m.unixMicros))
}

// Release gives the memory of Body back for the next message. It saves the
// garbage collector work where messages are many. It may be called once; Body
// must not be touched afterwards. A message that is not released is collected
// like anything else. In Options.OnMessage it does nothing.
func (m Message) Release() {
	if m.buffer != nil {
		m.buffer.Release()
	}
}

// Ack tells the sender that the message has been processed, if it waits to hear
// that; otherwise it does nothing. It does not wait, and may be called from any
// goroutine, also after Release. The sender learns of it after a lost connection
// as well, unless this client comes back too late (EventNewID): then what was received before
// concerns nobody any more.
func (m Message) Ack() {
	if m.verdicts != nil {
		m.verdicts.add(m.From, m.Seq, wire.FateProcessed)
	}
}

// Nak tells the sender that the application does not want the message. It is
// otherwise like Done. Of both only the first call counts, for every copy of the message: a client
// that its sender has named twice has one verdict.
func (m Message) Nak() {
	if m.verdicts != nil {
		m.verdicts.add(m.From, m.Seq, wire.FateRejected)
	}
}

// position is a place in what the hub counts: DELIVERs and REPORTs.
type position struct {
	frames uint64
	bytes  uint64 // on the wire
}

// entry is a message that waits.
type entry struct {
	Message
	before position // of what is counted, what came before it
}

// inbox holds the messages that nobody has received yet, and knows what the hub is
// to be told about those that somebody has. A message counts as received when the
// one who got it comes back for another, or some time later: so whoever is killed
// with a message in hand has not received it.
type inbox struct {
	maxBytes    int           // bytes at which the reading pauses; 0: never
	notEmpty    chan struct{} // capacity 1: there is something to take, or an end
	notFull     chan struct{} // capacity 1: bytes went below limit
	sendAck     func()        // called without mu when the hub is to be told now
	scheduleAck func()        // called without mu when it is to be told at some time

	mu         sync.Mutex
	messages   []entry
	head       int
	bytes      int
	err        error // why there will be no more
	discarding bool  // what comes is dropped, and counts as neither handed over nor received
	ack        ackState
}

// ackState is where the counting stands. It is guarded by the inbox's lock.
type ackState struct {
	conn            *conn    // that the hub is told on; nil: none
	window          int      // how far the hub sends ahead, in bytes
	read            position // what has come
	deliveredAtTick position // what was handed over when tick looked last
	received        position // what was received
	acked           position // what the hub knows of that
	urgent          bool     // somebody waits to hear of something that has come
	moreBuffered    bool     // more will come at once
	pending         bool     // a TAKEN waits to be written
}

// maxUrgent is how many messages that somebody waits to hear of are received before
// the hub is told, where they come without a pause.
const maxUrgent = 64

func (b *inbox) init(maxBytes int, sendAck, scheduleAck func()) {
	b.maxBytes, b.sendAck, b.scheduleAck = maxBytes, sendAck, scheduleAck
	b.notEmpty = make(chan struct{}, 1)
	b.notFull = make(chan struct{}, 1)
}

// push adds what was read: messages, and where the counting is behind them. more says
// that there is more to read at once. It returns false when the inbox is full now, or closed.
func (b *inbox) push(messages []entry, read position, urgent, more bool) bool {
	b.mu.Lock()
	if b.err != nil {
		b.ack.read = read
		b.mu.Unlock()
		releaseAll(messages)
		return false
	}
	if b.head > len(b.messages)/2 { // or the row would grow while somebody lags behind
		n := copy(b.messages, b.messages[b.head:])
		clear(b.messages[n:])
		b.messages, b.head = b.messages[:n], 0
	}
	a := &b.ack
	idle := b.delivered() == a.received // whoever was handed something has come back
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
		a.received = b.delivered() // what came before the first message concerns nobody
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

// waitNotFull returns when there is room, or stop is closed.
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

// removeLimit ends the bound on what is in the inbox: the hub sees to it.
func (b *inbox) removeLimit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.maxBytes = 0
}

// receive returns the next message. It waits for it until ctx ends; what is there is
// taken even then. Whoever takes has received what was taken before.
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

// poll is take without the wait. Whoever comes later is woken when something is
// left.
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

// adjustBytes accounts for what was taken out. Called with mu held.
func (b *inbox) adjustBytes(bytes int) {
	full := b.bytes >= b.maxBytes
	b.bytes += bytes
	if full && b.bytes < b.maxBytes {
		signal(b.notFull)
	}
}

// close ends the inbox. What is in it can still be taken.
func (b *inbox) close(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	signal(b.notEmpty)
	signal(b.notFull)
}

// discard ends the inbox and drops what is in it. What was handed over counts as
// received, for its client will not come back.
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

// delivered returns up to where everything that is counted was handed over. It is
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

// ackDue reports whether the hub is to be told now. It is called with mu held.
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

// tick settles what was handed over before the last tick. It reports whether the
// hub is to be told something, and whether there is more to come.
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

// nextAck returns what the hub is to be told, and on which connection. The caller
// must do so, and call told when it has been written.
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

// onAckWritten notes that a TAKEN has been written, or never will be.
func (b *inbox) onAckWritten() {
	b.mu.Lock()
	b.ack.pending = false
	due := b.ackDue()
	b.mu.Unlock()
	if due {
		b.sendAck()
	}
}

// detach ends the counting until attach. It returns how much the hub is to be told when
// the client comes back, and how much has come. The one who reads calls it.
func (b *inbox) detach() (received uint64, read position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &b.ack
	a.conn = nil
	a.acked = a.received
	return a.acked.frames, a.read
}

// attach goes on with the counting on a new connection, from the start if the
// hub does. It returns where the counting stands.
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

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
