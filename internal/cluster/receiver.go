package cluster

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// receiver offers the batches that another hub sends to clients of this hub, and says to that hub
// when they are queued, and their fates.
//
// The callbacks of the link own it, except where it says otherwise.
type receiver struct {
	// Static after init.
	stream    stream
	clock     peerClock
	relay     *relay.Relay
	account   *body.Account // charged for batches, while the budget of the hub has room
	limit     int           // the window, in bytes
	onBlocked func(receiver int) func()

	requestAck func(id uint64) // see Config

	sender relay.Sender
	last   uint64 // number of the last batch of this generation

	// The current batch.
	head     batchHead
	ids      []byte        // its receivers
	buffer   *body.Buffer  // nil: there is none
	reserved *body.Account // of buffer, in the reserve; nil: buffer is charged to account
	part     *partQueued   // nil: no receiver blocks it
	plain    plainOrigin   // its origin, if it has no reports

	unsaid  int                     // bytes that were queued since the last flush of replies; see minUnsaid
	replies *replies                // of this generation
	current atomic.Pointer[replies] // replies, for other goroutines

	// reserve is memory for batches while the budget of the hub has no room. Each batch has an
	// account of its own in it, which tells when its memory is released.
	reserve *body.Budget

	// mu guards the field below: isOverfull is not a callback of the link.
	mu          sync.Mutex
	oldReserves []*body.Budget // of earlier generations, with batches that receivers still block
}

// maxReserves is the maximum number of windows that batches in the reserve can fill: those of this
// generation, and once more those of earlier generations. A small batch has up to three times the
// memory that it counts in the window.
const maxReserves = 4

// minUnsaid is the number of bytes of batches at which the other hub is told at once that they are
// queued: an eighth of the default credit of a sender. A sender of version 1 has no credit, and
// waits for its batches; minUnsaidV1 is the number for them.
const (
	minUnsaid   = 16 << 10
	minUnsaidV1 = 4 << 10
)

// init prepares r.
func (r *receiver) init(s stream, clock peerClock, config *Config, limit int) {
	r.stream, r.clock, r.relay, r.limit = s, clock, config.Relay, limit
	r.account, r.requestAck = config.NewAccount(), config.RequestAck
	r.reserve = body.NewBudget(int64(limit), 0)
	r.onBlocked = func(i int) func() {
		if r.part == nil {
			r.part = &partQueued{replies: r.replies, number: r.head.number}
		}
		return r.part.block(i)
	}
	r.newReplies()
}

// newReplies begins the replies of a generation.
func (r *receiver) newReplies() {
	r.replies = &replies{stream: r.stream, account: r.account}
	r.current.Store(r.replies)
}

// appendReplies appends to the stream what waits for a flush: a batch that is about to be appended
// takes it along. It can be called concurrently.
func (r *receiver) appendReplies() { r.current.Load().appendWaiting() }

// begin prepares r for the records in bytes of the stream that have just come.
func (r *receiver) begin() { r.sender.Begin(r.relay, r.account) }

// finish flushes the outboxes that were offered batches, and says soon what is queued.
func (r *receiver) finish() {
	r.sender.Reset()
	if r.unsaid >= minUnsaid {
		r.unsaid = 0
		r.replies.flushNow()
	}
}

// reset begins a new generation. Batches of the old one that receivers still block have no replies.
func (r *receiver) reset() {
	r.dropBuffer()
	r.replies.close()
	r.newReplies()
	r.last, r.unsaid = 0, 0
	if used, _ := r.reserve.Used(); used > 0 {
		r.mu.Lock()
		r.oldReserves = append(r.oldReserves, r.reserve)
		r.mu.Unlock()
		r.reserve = body.NewBudget(int64(r.limit), 0)
	}
}

// isOverfull reports whether the batches of earlier generations that receivers still block have so
// much memory that no more can be accepted. It can be called concurrently.
func (r *receiver) isOverfull() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := int64(0)
	r.oldReserves = slices.DeleteFunc(r.oldReserves, func(b *body.Budget) bool {
		used, _ := b.Used()
		sum += used
		return used == 0
	})
	return sum > maxReserves*int64(r.limit)
}

// peerClock tells the time of another hub.
type peerClock interface {
	// PeerNow returns the time of the other hub: see link.Link.PeerNow.
	PeerNow() int64
}

// plainOrigin is the origin of batches without reports.
type plainOrigin struct{ id uint64 }

func (o *plainOrigin) ID() uint64                  { return o.id }
func (*plainOrigin) CanSend() func(to uint64) bool { return nil }
func (*plainOrigin) SendReports(_ []byte, _ int)   {}

// reportOrigin is the origin of a batch with reports, which go back to its hub.
type reportOrigin struct {
	plainOrigin
	replies *replies
	number  uint64
}

// SendReports implements relay.Origin.
func (o *reportOrigin) SendReports(frames []byte, _ int) { o.replies.addFates(o.number, frames) }

// beginBatch handles the head of a recordBatch, and returns where its body goes.
func (r *receiver) beginBatch(head []byte, size int) ([]byte, error) {
	h, ids, err := parseBatchHead(head)
	switch {
	case err != nil:
		return nil, err
	case h.number <= r.last:
		return nil, nonsense("transfer %d after %d", h.number, r.last)
	case size > r.limit:
		return nil, nonsense("batch of %d bytes, the window has %d", size, r.limit)
	}
	r.head, r.ids, r.last, r.reserved = h, ids, h.number, nil
	if r.buffer = r.account.TryAcquire(size); r.buffer == nil {
		for id := range ids.All() { // most likely they hold what came before
			r.requestAck(id)
		}
		if used, _ := r.reserve.Used(); used > maxReserves*int64(r.limit) {
			return nil, nonsense("batches that do not fit the window")
		}
		r.reserved = r.reserve.NewAccount(int64(r.limit))
		r.buffer = r.reserved.ForceAcquire(size)
	}
	return r.buffer.Bytes()[:size], nil
}

// endBatch offers a batch that has come whole.
func (r *receiver) endBatch(data []byte) error {
	h := &r.head
	defer r.dropBuffer()
	if err := checkBatch(h, data); err != nil {
		return err
	}
	r.plain.id = h.origin
	messages := relay.Messages{
		Origin: &r.plain, FirstSeq: h.firstSeq, ReadAt: h.readAt, FromHub: true, OnBlocked: r.onBlocked,
		Options: relay.Options{IsSend: h.isSend, Wire: h.options, Expires: r.localExpiry(h.expires)},
	}
	if h.reportBy != 0 {
		messages.Origin = &reportOrigin{plainOrigin{h.origin}, r.replies, h.number}
		messages.ReportTimeout = max(time.Millisecond, r.timeUntil(h.reportBy))
	}
	ids := wire.IDs(r.ids).AppendTo(r.sender.IDBuf())
	r.sender.Send(&messages, ids, outbox.Batch{Buffer: r.buffer, To: len(data), Frames: h.frames, Messages: true})
	r.unsaid += len(data)
	if !h.isSend {
		r.unsaid += len(data) * (minUnsaid/minUnsaidV1 - 1) // its client is not read until then
	}
	if r.part == nil {
		r.replies.addQueued(h.number, r.reserved)
	} else {
		r.part.offered(len(ids), r.reserved)
		r.part = nil
	}
	return nil
}

// dropBuffer gives up the buffer of the current batch.
func (r *receiver) dropBuffer() {
	if r.buffer != nil {
		r.buffer.Release()
		r.buffer = nil
	}
}

// localExpiry returns a time of the other hub's clock as ns since 1970; 0 stays 0.
func (r *receiver) localExpiry(at int64) int64 {
	if at == 0 {
		return 0
	}
	return time.Now().Add(r.timeUntil(at)).UnixNano()
}

// maxWait limits the times that another hub gives. It is above the largest time to live, which has
// 32 bits of ms.
const maxWait = 50 * 24 * time.Hour

// timeUntil returns how long it is until a time of the other hub's clock.
func (r *receiver) timeUntil(at int64) time.Duration {
	const limit = int64(maxWait / time.Microsecond)
	return time.Duration(min(max(at-r.clock.PeerNow(), -limit), limit)) * time.Microsecond
}

// partQueued follows a batch that some of its receivers block. Its methods can be called
// concurrently.
type partQueued struct {
	replies *replies
	number  uint64

	// mu guards the fields below.
	mu       sync.Mutex
	blocked  positions     // receivers that block the batch
	complete bool          // all receivers were offered the batch
	reserved *body.Account // see receiver.reserved
}

// block records that receiver i blocks the batch, and returns what is to be called when it does not
// any more.
func (p *partQueued) block(i int) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked.set(i)
	return func() { p.unblock(i) }
}

// unblock records that receiver i blocks the batch no more.
func (p *partQueued) unblock(i int) {
	p.mu.Lock()
	p.blocked.clear(i)
	complete, over, reserved := p.complete, p.blocked == (positions{}), p.reserved
	p.mu.Unlock()
	switch {
	case !complete: // offered says it
	case over:
		p.replies.addQueued(p.number, reserved)
	default:
		p.replies.addPartQueued(p.number, 0, []byte{byte(i)})
	}
}

// offered records that all n receivers were offered the batch.
func (p *partQueued) offered(n int, reserved *body.Account) {
	p.mu.Lock()
	p.complete, p.reserved = true, reserved
	over := p.blocked == (positions{})
	var queued []byte
	for i := range n {
		if !p.blocked.has(i) {
			queued = append(queued, byte(i))
		}
	}
	p.mu.Unlock()
	switch {
	case over:
		p.replies.addQueued(p.number, reserved)
	case reserved == nil: // those that block it do not keep the window from others
		p.replies.addPartQueued(p.number, partAccepted, queued)
	case len(queued) > 0:
		p.replies.addPartQueued(p.number, 0, queued)
	}
}
