package client

import (
	"context"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// messageCost is what an unread message counts beyond its body, in bytes: its
// place in the inbox, and its part of the buffer that it lies in.
const messageCost = 128

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
	micros uint64       // when the hub took it, in µs since 1970; 0: not known
	judge  *judge       // whom a verdict goes to; nil: nobody waits for one
	buffer *body.Buffer // nil: the body is lent
}

// Time returns when the hub took the message, by its clock, to the microsecond. It
// is the zero time in version 1.
func (m Message) Time() time.Time {
	if m.micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(m.micros))
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

// Done tells the sender that the message has been processed, if it waits to hear
// that; otherwise it does nothing. It does not wait, and may be called from any
// goroutine, also after Release. The sender learns of it after a lost connection
// as well, unless this client comes back too late (EventNewID): then what was received before
// concerns nobody any more.
func (m Message) Done() {
	if m.judge != nil {
		m.judge.add(m.From, m.Seq, wire.FateProcessed)
	}
}

// Reject tells the sender that the application does not want the message. It is
// otherwise like Done. Of both only the first call counts, for every copy of the message: a client
// that its sender has named twice has one verdict.
func (m Message) Reject() {
	if m.judge != nil {
		m.judge.add(m.From, m.Seq, wire.FateRejected)
	}
}

// mark is a place in what the hub counts: DELIVERs and REPORTs.
type mark struct {
	frames uint64
	bytes  uint64 // on the wire
}

// entry is a message that waits.
type entry struct {
	Message
	before mark // of what is counted, what came before it
}

// inbox holds the messages that nobody has received yet, and knows what the hub is
// to be told about those that somebody has. A message counts as received when the
// one who got it comes back for another, or some time later: so whoever is killed
// with a message in hand has not received it.
type inbox struct {
	limit int           // bytes at which the reading pauses; 0: never
	some  chan struct{} // capacity 1: there is something to take, or an end
	room  chan struct{} // capacity 1: bytes went below limit
	tell  func()        // called without mu when the hub is to be told now
	later func()        // called without mu when it is to be told at some time

	mu       sync.Mutex
	messages []entry
	head     int
	bytes    int
	err      error // why there will be no more
	dropped  bool  // what comes is dropped, and counts as neither handed over nor received
	receipts receipts
}

// receipts is where the counting stands. It is guarded by the inbox's lock.
type receipts struct {
	link    *link // that the hub is told on; nil: none
	window  int   // how far the hub sends ahead, in bytes
	read    mark  // what has come
	noted   mark  // what was handed over when tick looked last
	settled mark  // what was received
	said    mark  // what the hub knows of that
	urgent  bool  // somebody waits to hear of something that has come
	more    bool  // more will come at once
	telling bool  // a TAKEN waits to be written
}

// urgentMost is how many messages that somebody waits to hear of are received before
// the hub is told, where they come without a pause.
const urgentMost = 64

func (b *inbox) init(limit int, tell, later func()) {
	b.limit, b.tell, b.later = limit, tell, later
	b.some = make(chan struct{}, 1)
	b.room = make(chan struct{}, 1)
}

// push adds what was read: messages, and where the counting is behind them. more says
// that there is more to read at once. It returns false when the inbox is full now, or closed.
func (b *inbox) push(messages []entry, read mark, urgent, more bool) bool {
	b.mu.Lock()
	if b.err != nil {
		b.receipts.read = read
		b.mu.Unlock()
		release(messages)
		return false
	}
	if b.head > len(b.messages)/2 { // or the row would grow while somebody lags behind
		n := copy(b.messages, b.messages[b.head:])
		clear(b.messages[n:])
		b.messages, b.head = b.messages[:n], 0
	}
	r := &b.receipts
	idle := b.prefix() == r.settled // whoever was handed something has come back
	b.messages = append(b.messages, messages...)
	for i := range messages {
		b.bytes += len(messages[i].Body) + messageCost
	}
	if len(messages) > 0 {
		signal(b.some)
	}
	counted := read != r.read
	r.read = read
	r.urgent, r.more = r.urgent || urgent, more
	if idle {
		r.settled = b.prefix() // what came before the first message concerns nobody
	}
	open := b.limit == 0 || b.bytes < b.limit
	due := b.due()
	b.mu.Unlock()
	if due {
		b.tell()
	} else if counted {
		b.later()
	}
	return open
}

// await returns when there is room, or stop is closed.
func (b *inbox) await(stop ...<-chan struct{}) {
	for b.full() {
		select {
		case <-b.room:
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
	return b.err == nil && b.limit > 0 && b.bytes >= b.limit
}

// unlimit ends the bound on what is in the inbox: the hub sees to it.
func (b *inbox) unlimit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = 0
}

// take returns the next message. It waits for it until ctx ends; what is there is
// taken even then. Whoever takes has received what was taken before.
func (b *inbox) take(ctx context.Context) (Message, error) {
	for {
		m, ok, err := b.poll()
		if ok || err != nil {
			return m, err
		}
		select {
		case <-b.some:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

// poll is take without the wait. Whoever comes later is woken when something is
// left.
func (b *inbox) poll() (m Message, ok bool, err error) {
	b.mu.Lock()
	b.receipts.settled = b.prefix()
	due := b.due()
	if b.head < len(b.messages) {
		ok = true
		m = b.messages[b.head].Message
		b.messages[b.head] = entry{}
		b.head++
		b.moved(-len(m.Body) - messageCost)
	} else {
		err = b.err
	}
	if b.head == len(b.messages) {
		b.messages, b.head = b.messages[:0], 0
	}
	if b.err != nil || b.head < len(b.messages) {
		signal(b.some)
	}
	b.mu.Unlock()
	if due {
		b.tell()
	} else if m.micros != 0 {
		b.later()
	}
	return m, ok, err
}

// moved accounts for what was taken out. Called with mu held.
func (b *inbox) moved(bytes int) {
	full := b.bytes >= b.limit
	b.bytes += bytes
	if full && b.bytes < b.limit {
		signal(b.room)
	}
}

// close ends the inbox. What is in it can still be taken.
func (b *inbox) close(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	signal(b.some)
	signal(b.room)
}

// discard ends the inbox and drops what is in it. What was handed over counts as
// received, for its client will not come back.
func (b *inbox) discard(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.receipts.settled = b.prefix()
	b.receipts.noted = b.receipts.settled
	b.dropped = true
	release(b.messages[b.head:])
	b.messages, b.head, b.bytes, b.err = nil, 0, 0, err
	signal(b.some)
	signal(b.room)
}

// prefix returns up to where everything that is counted was handed over. It is
// called with mu held.
func (b *inbox) prefix() mark {
	switch {
	case b.dropped:
		return b.receipts.settled
	case b.head < len(b.messages):
		return b.messages[b.head].before
	}
	return b.receipts.read
}

// due reports whether the hub is to be told now. It is called with mu held.
func (b *inbox) due() bool {
	r := &b.receipts
	n := r.settled.frames - r.said.frames
	switch {
	case n == 0 || r.telling || r.link == nil:
		return false
	case r.settled.bytes-r.said.bytes >= uint64(r.window/2):
		return true
	default:
		return r.urgent && (n >= urgentMost || b.head == len(b.messages) && !r.more)
	}
}

// tick settles what was handed over before the last tick. It reports whether the
// hub is to be told something, and whether there is more to come.
func (b *inbox) tick() (due, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &b.receipts
	before := r.noted.frames
	if before > r.settled.frames {
		r.settled = r.noted
	}
	r.noted = b.prefix()
	if r.link == nil {
		return false, false
	}
	return before > r.said.frames && !r.telling, r.noted.frames > r.said.frames
}

// claim returns what the hub is to be told, and on which connection. The caller
// must do so, and call told when it has been written.
func (b *inbox) claim() (upTo uint64, l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &b.receipts
	if r.link == nil || r.telling || r.settled.frames == r.said.frames {
		return 0, nil
	}
	r.said, r.telling, r.urgent = r.settled, true, r.urgent && b.head < len(b.messages)
	return r.said.frames, r.link
}

// told notes that a TAKEN has been written, or never will be.
func (b *inbox) told() {
	b.mu.Lock()
	b.receipts.telling = false
	due := b.due()
	b.mu.Unlock()
	if due {
		b.tell()
	}
}

// detach ends the counting until attach. It returns how much the hub is to be told when
// the client comes back, and how much has come. The one who reads calls it.
func (b *inbox) detach() (received uint64, read mark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &b.receipts
	r.link = nil
	r.said = r.settled
	return r.said.frames, r.read
}

// attach goes on with the counting on a new connection, from the start if the
// hub does. It returns where the counting stands.
func (b *inbox) attach(l *link, window int, anew bool) mark {
	b.mu.Lock()
	r := &b.receipts
	if anew {
		*r = receipts{}
		for i := b.head; i < len(b.messages); i++ {
			b.messages[i].before = mark{}
		}
	}
	r.link, r.window, r.telling = l, window, false
	read, due := r.read, b.due()
	b.mu.Unlock()
	if due {
		b.tell()
	}
	return read
}

func release(messages []entry) {
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
