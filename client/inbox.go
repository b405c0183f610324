package client

import (
	"context"
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
)

const (
	// messageCost is what an unread message counts beyond its body, in bytes: its
	// place in the inbox, and its part of the buffer that it lies in.
	messageCost = 64

	// batchMost and batchBytes bound what Messages takes from the inbox at once.
	batchMost  = 64
	batchBytes = 64 << 10
)

// Message is a body that another client sent.
type Message struct {
	// Body belongs to the receiver for as long as it likes, unless it calls Release.
	// In Options.OnMessage it is lent until that returns.
	// Small bodies that came together share one piece of memory of up to 64 KiB,
	// which is freed with the last of them: clone what is to be kept for long.
	Body []byte

	buffer *body.Buffer
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

// inbox holds the messages that nobody has received yet.
type inbox struct {
	limit int           // bytes at which the reading pauses
	some  chan struct{} // capacity 1: there is something to take, or an end
	room  chan struct{} // capacity 1: bytes went below limit

	mu       sync.Mutex
	messages []Message
	head     int
	bytes    int
	err      error // why there will be no more
	dropped  bool  // nor is there anything left
}

func (b *inbox) init(limit int) {
	b.limit = limit
	b.some = make(chan struct{}, 1)
	b.room = make(chan struct{}, 1)
}

// push adds what was read. It returns false when the inbox is full now, or
// closed.
func (b *inbox) push(messages []Message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		release(messages)
		return false
	}
	if b.head > len(b.messages)/2 { // or the row would grow while somebody lags behind
		n := copy(b.messages, b.messages[b.head:])
		clear(b.messages[n:])
		b.messages, b.head = b.messages[:n], 0
	}
	b.messages = append(b.messages, messages...)
	for i := range messages {
		b.bytes += len(messages[i].Body) + messageCost
	}
	signal(b.some)
	return b.bytes < b.limit
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
	return b.err == nil && b.bytes >= b.limit
}

// take moves messages into batch, at least one and at most batchBytes of them.
// It waits for the first until ctx ends; what is there is taken even then.
func (b *inbox) take(ctx context.Context, batch []Message) (int, error) {
	for {
		n, err := b.poll(batch)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-b.some:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// poll is take without the wait. Whoever comes later is woken when something is
// left.
func (b *inbox) poll(batch []Message) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, bytes := 0, 0
	for n < len(batch) && b.head < len(b.messages) && (n == 0 || bytes < batchBytes) {
		batch[n] = b.messages[b.head]
		b.messages[b.head] = Message{}
		bytes += len(batch[n].Body)
		b.head++
		n++
	}
	b.moved(-bytes - n*messageCost)
	if b.head == len(b.messages) {
		b.messages, b.head = b.messages[:0], 0
	}
	if n > 0 {
		if b.head < len(b.messages) || b.err != nil {
			signal(b.some)
		}
		return n, nil
	}
	if b.err != nil {
		signal(b.some)
	}
	return 0, b.err
}

// putBack returns messages that were taken and not used to the front.
func (b *inbox) putBack(messages []Message) {
	if len(messages) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dropped {
		release(messages)
		return
	}
	b.messages = append(append([]Message(nil), messages...), b.messages[b.head:]...)
	b.head = 0
	for i := range messages {
		b.bytes += len(messages[i].Body) + messageCost
	}
	signal(b.some)
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

// discard ends the inbox and drops what is in it.
func (b *inbox) discard(err error) {
	b.close(err)
	b.mu.Lock()
	defer b.mu.Unlock()
	release(b.messages[b.head:])
	b.messages, b.head, b.bytes = nil, 0, 0
	b.err, b.dropped = err, true
}

func release(messages []Message) {
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
