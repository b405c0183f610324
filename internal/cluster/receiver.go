package cluster

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// receiver offers the batches that another hub sends to clients of this hub, and says to that hub
// when they are queued, and their fates.
//
// It belongs to the goroutine that handles the frames of the link, except where it says otherwise.
type receiver struct {
	// Static after init.
	stream    stream
	clock     peerClock
	relay     *relay.Relay
	account   *body.Account // charged for batches, while the budget of the hub has room
	reserve   *body.Account // charged for the others
	limit     int           // the window, in bytes
	onBlocked func(receiver int) func()

	sender relay.Sender
	last   uint64 // number of the last batch of this generation

	// The current batch.
	head   batchHead
	ids    []byte       // its receivers
	buffer *body.Buffer // nil: there is none
	part   *partQueued  // nil: no receiver blocks it
	plain  plainOrigin  // its origin, if it has no reports

	unsaid  int      // bytes that are queued, and not said to be since the last flush
	replies *replies // of this generation
}

// init prepares r. reserve must be an account of its own.
func (r *receiver) init(s stream, clock peerClock, config *Config, limit int) {
	r.stream, r.clock, r.relay, r.limit = s, clock, config.Relay, limit
	r.account = config.NewAccount()
	r.reserve = body.NewBudget(int64(limit), 0).NewAccount(int64(limit))
	r.onBlocked = func(i int) func() {
		if r.part == nil {
			r.part = &partQueued{replies: r.replies, number: r.head.number}
		}
		return r.part.block(i)
	}
	r.replies = &replies{stream: s, reserve: r.reserve}
}

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
	r.replies = &replies{stream: r.stream, reserve: r.reserve}
	r.last, r.unsaid = 0, 0
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
	r.head, r.ids, r.last = h, ids, h.number
	if r.buffer = r.account.TryAcquire(size); r.buffer == nil {
		if r.reserve.Held() > maxReserves*int64(r.limit) {
			return nil, nonsense("batches that do not fit the window")
		}
		r.buffer = r.reserve.ForceAcquire(size)
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
		messages.ReportTimeout = max(time.Millisecond, time.Duration(h.reportBy-r.clock.PeerNow())*time.Microsecond)
	}
	ids := wire.IDs(r.ids).AppendTo(r.sender.IDBuf())
	r.sender.Send(&messages, ids, outbox.Batch{Buffer: r.buffer, To: len(data), Frames: h.frames, Messages: true})
	r.unsaid += len(data)
	reserved := 0
	if r.buffer.Account() == r.reserve {
		reserved = len(r.buffer.Bytes())
	}
	if r.part == nil {
		r.replies.addQueued(h.number, reserved)
	} else {
		r.part.offered(len(ids), reserved)
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
	return time.Now().UnixNano() + (at-r.clock.PeerNow())*1000
}

// partQueued follows a batch that some of its receivers block. Its methods can be called
// concurrently.
type partQueued struct {
	replies *replies
	number  uint64

	// mu guards the fields below.
	mu       sync.Mutex
	blocked  positions // receivers that block the batch
	complete bool      // all receivers were offered the batch
	reserved int
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
	complete, over := p.complete, p.blocked == (positions{})
	p.mu.Unlock()
	switch {
	case !complete: // offered says it
	case over:
		p.replies.addQueued(p.number, p.reserved)
	default:
		p.replies.addPartQueued(p.number, []byte{byte(i)})
	}
}

// offered records that all n receivers were offered the batch.
func (p *partQueued) offered(n, reserved int) {
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
	case len(queued) > 0:
		p.replies.addPartQueued(p.number, queued)
	}
}

// minUnsaid is the number of bytes of batches at which the other hub is told at once that they are
// queued: an eighth of the default credit of a sender.
const minUnsaid = 16 << 10

// maxReserves is the maximum number of windows that batches in the reserve can fill: those of this
// generation, and of earlier ones that receivers still block.
const maxReserves = 4

// maxGathered is the number of bytes of replies at which they are sent at once.
const maxGathered = 4 << 10

// gatherDelay is how long replies are gathered before they are sent. Batches in the other direction
// take them along earlier.
const gatherDelay = time.Millisecond

// replies gathers what a hub says about the batches of another hub: that they are queued, and their
// fates. Its methods can be called concurrently.
type replies struct {
	stream  stream        // static
	reserve *body.Account // static

	// mu guards the fields below.
	mu          sync.Mutex
	first, last uint64 // transfers that are queued, and not said to be; last 0: none
	reserved    []reservedTransfer
	gathered    int // bytes that were appended to the stream, and not flushed
	timer       *time.Timer
	closed      bool
}

// reservedTransfer is a transfer whose memory is charged to the reserve.
type reservedTransfer struct {
	number uint64
	size   int
}

// addQueued records that a transfer is queued for all receivers. Of a transfer with reserved bytes
// of the reserve, the other hub learns it once that memory is released.
func (r *replies) addQueued(number uint64, reserved int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if reserved > 0 {
		r.reserved = append(r.reserved, reservedTransfer{number, reserved})
		r.releaseReserved()
		r.startTimer()
		return
	}
	r.queued(number)
	r.startTimer()
}

// queued adds a transfer to the range that is said next. It is called with mu held.
func (r *replies) queued(number uint64) {
	switch {
	case r.last == 0:
		r.first, r.last = number, number
	case number == r.last+1:
		r.last = number
	default:
		r.appendQueued()
		r.first, r.last = number, number
	}
}

// releaseReserved says of those transfers that they are queued for which the reserve has room. It
// is called with mu held.
func (r *replies) releaseReserved() {
	if len(r.reserved) == 0 {
		return
	}
	sum, held := 0, int(r.reserve.Held())
	for _, t := range r.reserved {
		sum += t.size
	}
	for len(r.reserved) > 0 && sum-r.reserved[0].size >= held {
		sum -= r.reserved[0].size
		r.queued(r.reserved[0].number)
		r.reserved = r.reserved[1:]
	}
}

// addPartQueued records that a transfer is queued for the receivers at these positions.
func (r *replies) addPartQueued(number uint64, at []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	head := make([]byte, 0, recordHeaderSize+partHeadSize+len(at))
	head = appendRecordHeader(head, recordPartQueued, partHeadSize+len(at), 0)
	head = binary.BigEndian.AppendUint64(head, number)
	r.append(append(head, at...))
}

// addFates records REPORTs for a transfer.
func (r *replies) addFates(number uint64, reports []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(reports) > 0 {
		part := reports[:0]
		for frame := range wire.Frames(reports) {
			if len(part)+len(frame) > maxControlBody {
				break
			}
			part = reports[:len(part)+len(frame)]
		}
		reports = reports[len(part):]
		record := make([]byte, 0, recordHeaderSize+fatesHeadSize+len(part))
		record = appendRecordHeader(record, recordFates, fatesHeadSize, len(part))
		record = binary.BigEndian.AppendUint64(record, number)
		r.append(append(record, part...))
	}
}

// appendQueued appends the range of transfers that are queued. It is called with mu held.
func (r *replies) appendQueued() {
	if r.last == 0 {
		return
	}
	head := appendRecordHeader(make([]byte, 0, recordHeaderSize+queuedHeadSize), recordQueued, queuedHeadSize, 0)
	head = binary.BigEndian.AppendUint64(head, r.first)
	head = binary.BigEndian.AppendUint64(head, r.last)
	r.first, r.last = 0, 0
	r.append(head)
}

// append appends a record, and has it sent soon. It is called with mu held.
func (r *replies) append(record []byte) {
	if r.closed {
		return
	}
	r.stream.Append(record, nil, 0, 0)
	r.gathered += len(record)
	if r.gathered >= maxGathered {
		r.gathered = 0
		r.stream.Flush()
		return
	}
	r.startTimer()
}

// startTimer has what was gathered sent after gatherDelay. It is called with mu held.
func (r *replies) startTimer() {
	if r.closed || r.timer != nil {
		return
	}
	r.timer = time.AfterFunc(gatherDelay, r.onTimer)
}

// onTimer sends what was gathered.
func (r *replies) onTimer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = nil
	if r.closed {
		return
	}
	r.flush()
	if len(r.reserved) > 0 {
		r.startTimer()
	}
}

// flush sends what was gathered. It is called with mu held.
func (r *replies) flush() {
	r.releaseReserved()
	r.appendQueued()
	r.gathered = 0
	r.stream.Flush()
}

// flushNow sends what was gathered.
func (r *replies) flushNow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.flush()
	}
}

// close ends the timer. Nothing is appended any more.
func (r *replies) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
}
