package local

import (
	"context"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// preferredBuf is the size of a buffer for the messages that come while others are being offered,
// in bytes: a quarter of the default credit.
const preferredBuf = 32 << 10

// sender is the origin of the messages of one id. Sends build batches, and a goroutine offers
// them: while it offers one, the next one grows. A Send in a loop thus costs what a message of a
// busy connection costs, and not a system call.
type sender struct {
	// Static after newSender.
	config  *SenderConfig
	id      uint64
	account *body.Account
	turn    chan struct{} // capacity 1; full while a Send waits for room, which keeps the order
	room    chan struct{} // capacity 1: the Send that has the turn may have room

	sends int // Sends that have begun; guarded by Senders.mu

	// mu guards the fields below.
	mu      sync.Mutex
	seq     uint64 // of the last message
	window  relay.Window
	unsent  int // cost of the messages in builder and queue
	reports int // messages whose report has not come
	waiting int // Sends that wait for room

	builder  relay.Builder
	building batch   // the batch of builder
	queue    []batch // before building
	pumping  bool    // a goroutine runs pump

	fates map[uint64]chan []wire.Fate // Sends that wait for the report, by seq; each has capacity 1
}

// batch is a batch of messages, whose seqs follow without a gap.
type batch struct {
	outbox.Batch          // with a reference to its buffer; empty while it is being built
	to           wire.IDs // in memory of its own
	options      relay.Options
	first, last  uint64 // seqs
	cost         relay.Cost
}

func newSender(config *SenderConfig, id, lastSeq uint64) *sender {
	return &sender{
		config: config, id: id, account: config.NewAccount(), seq: lastSeq,
		turn: make(chan struct{}, 1), room: make(chan struct{}, 1), fates: make(map[uint64]chan []wire.Fate),
	}
}

// unused reports whether nothing that o has sent is under way.
func (o *sender) unused() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.pumping && o.window.Bytes() == 0 && o.reports == 0 && !o.account.InUse()
}

// send has a message offered to its receivers, after those of earlier calls. It returns where the
// fates will arrive, or nil if the message requests no report.
func (o *sender) send(ctx context.Context, m *Send) (seq uint64, fates <-chan []wire.Fate, err error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	if seq, fates, ok := o.trySend(m); ok {
		return seq, fates, nil
	}
	defer o.endWait()
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	case <-o.config.Closing:
		return 0, nil, o.config.ErrClosed
	}
	return o.sendInTurn(ctx, m)
}

// sendToNone sends a message that has no receivers, and returns its report.
func (o *sender) sendToNone() Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.finishBatch() // the seqs of a batch have no gap
	o.seq++
	o.config.OnSend(0)
	return Report{Seq: o.seq}
}

// trySend adds a message to the batches, unless it must wait, or others wait already. It then
// counts the caller as waiting.
func (o *sender) trySend(m *Send) (seq uint64, fates <-chan []wire.Fate, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waiting == 0 && o.hasRoom(m) && o.ensureBuf(m, nil) {
		seq, fates = o.append(m)
		return seq, fates, true
	}
	o.waiting++
	return 0, nil, false
}

func (o *sender) endWait() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting--
}

// sendInTurn is send for a caller that has the turn.
func (o *sender) sendInTurn(ctx context.Context, m *Send) (seq uint64, fates <-chan []wire.Fate, err error) {
	var spare *body.Buffer // acquired by a wait
	defer func() {
		if spare != nil {
			spare.Release()
		}
	}()
	for {
		o.mu.Lock()
		hasRoom := o.hasRoom(m)
		if hasRoom && o.ensureBuf(m, &spare) {
			defer o.mu.Unlock()
			seq, fates = o.append(m)
			return seq, fates, nil
		}
		o.mu.Unlock()
		if hasRoom {
			if spare, err = o.acquire(ctx, wire.DeliverLen(len(m.Body)), m.To); err != nil {
				return 0, nil, err
			}
			continue
		}
		select {
		case <-o.room:
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		case <-o.config.Closing:
			return 0, nil, o.config.ErrClosed
		}
	}
}

// acquire returns a buffer of at least n bytes. It waits for memory until ctx ends.
func (o *sender) acquire(ctx context.Context, n int, to []uint64) (*body.Buffer, error) {
	o.config.RequestAcks(to)
	waitCtx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with acquire
		defer close(done)
		select {
		case <-o.config.Closing:
			cancel()
		case <-waitCtx.Done():
		}
	}()
	buf, err := o.account.Acquire(n, waitCtx.Done())
	cancel()
	<-done
	switch {
	case err == nil:
		return buf, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, o.config.ErrClosed
}

// onQueued records that all messages of a batch are queued for their receivers, or have failed.
func (o *sender) onQueued(lastSeq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.window.OnQueued(lastSeq)
	notify(o.room)
}

// abandon forgets that a Send waits for the report of a message.
func (o *sender) abandon(seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.fates, seq)
}

// ID implements relay.Origin.
func (o *sender) ID() uint64 { return o.id }

// CanSend implements relay.Origin.
func (o *sender) CanSend() func(to uint64) bool { return nil }

// SendReports implements relay.Origin.
func (o *sender) SendReports(frames []byte, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reports -= n
	notify(o.room)
	for frame := range wire.Frames(frames) {
		_, payload := wire.Split(frame)
		report, _ := wire.ParseReport(payload) // encoded by this hub
		c := o.fates[report.Seq]
		if c == nil {
			continue // abandoned
		}
		fates := make([]wire.Fate, len(report.Fates))
		for i, fate := range report.Fates {
			fates[i] = wire.Fate(fate)
		}
		c <- fates
		delete(o.fates, report.Seq)
	}
}

// The following are called with mu held.

// hasRoom reports whether the credit and the number of reports have room for one more message.
func (o *sender) hasRoom(m *Send) bool {
	cost := relay.CostOf(len(m.To), len(m.Body)).InFlight
	if m.wantsReport() && o.reports >= o.config.MaxReports {
		return false
	}
	return relay.FitsCredit(o.unsent+o.window.Bytes(), cost, o.config.Credit)
}

// ensureBuf makes sure that the message can be appended to the batch of builder. It uses *spare if
// that is not nil, and otherwise acquires memory. It returns false if there is none.
func (o *sender) ensureBuf(m *Send, spare **body.Buffer) bool {
	size := wire.DeliverLen(len(m.Body))
	if !o.accepts(m) || !o.builder.HasRoom(size) {
		o.finishBatch()
	}
	if o.builder.HasRoom(size) {
		return true
	}
	var buf *body.Buffer
	if spare != nil && *spare != nil {
		buf, *spare = *spare, nil
	}
	if buf == nil && o.pumping {
		buf = o.account.TryAcquire(max(size, preferredBuf))
	}
	if buf == nil {
		buf = o.account.TryAcquire(size)
	}
	if buf == nil {
		return false
	}
	o.builder.SetBuf(buf)
	return true
}

// accepts reports whether a message can join the batch of builder.
func (o *sender) accepts(m *Send) bool {
	if o.builder.Frames() == 0 {
		return true
	}
	opts := m.options()
	return !opts.Unbatchable() && sameIDs(o.building.to, m.To) && o.builder.Accepts(o.building.to, opts, newIDBuf)
}

// sameIDs reports whether ids are those in to, in the same order.
func sameIDs(ids wire.IDs, to []uint64) bool {
	if ids.Len() != len(to) {
		return false
	}
	for i, id := range to {
		if ids.At(i) != id {
			return false
		}
	}
	return true
}

// append appends a message to the batch of builder, which must have room, and has it offered.
func (o *sender) append(m *Send) (seq uint64, fates <-chan []wire.Fate) {
	o.seq++
	seq = o.seq
	if m.wantsReport() {
		c := make(chan []wire.Fate, 1)
		o.fates[seq] = c
		o.reports++
		fates = c
	}
	b, opts, cost := &o.building, m.options(), relay.CostOf(len(m.To), len(m.Body))
	if o.builder.Frames() == 0 {
		ids := make([]byte, 0, len(m.To)*wire.IDSize)
		*b = batch{to: wire.AppendIDs(ids, m.To), options: opts, first: seq}
	}
	b.last, b.cost = seq, b.cost.Plus(cost)
	o.unsent += cost.InFlight
	d := wire.Deliver{Sender: o.id, Seq: seq, Time: uint64(time.Now().UnixMicro()), Flags: opts.DeliverFlags(), Body: m.Body}
	o.builder.Append(b.to, opts, func(buf []byte) []byte { return wire.AppendDeliver(buf, &d) })
	o.config.OnSend(len(m.To))
	if !o.pumping {
		o.pumping = true
		o.config.Offering.Add(1)
		o.config.Running.Add(1)
		go o.pump()
	}
	return seq, fates
}

// finishBatch moves the batch of builder to the queue.
func (o *sender) finishBatch() {
	if o.builder.Frames() > 0 {
		o.building.Batch, _, _ = o.builder.Take()
		o.building.Buffer.Retain()
		o.queue = append(o.queue, o.building)
		o.building = batch{}
	}
}
