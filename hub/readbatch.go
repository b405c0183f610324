package hub

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// readBatch is pooled state for the frames of one read. A connection that waits for bytes
// holds none.
//
// Consecutive messages to the same receivers, as from a client that sends much to its group,
// form a batch: their deliveries are encoded one behind the other into one buffer, and the
// batch is offered to each receiver once. The cost of a receiver is thus paid once per batch,
// not once per message.
type readBatch struct {
	conn    *conn
	flusher outbox.Flusher
	latency *latencySample // of its deliveries; nil: they are not timed

	// The batch that is being built. Its buffer is used up to batch.To.
	buf       *body.Buffer // where frames are encoded; nil until needed
	batch     outbox.Batch // the frames in buf that are not yet offered
	receivers wire.IDs     // of the batch, a view of the read buffer; nil: the client itself
	options   sendOptions  // what else the messages of the batch have in common

	// Of the SENDs in the batch.
	firstSeq, lastSeq uint64
	cost              sendCost
	readAt            time.Time // when this read was handled, taken when first needed; zero: not yet

	recvBuf     *recvBuf // nil until needed, and while the read loop waits
	maxRequests uint64   // value of conn.requests at which the rate limit stops the client

	// Counted here, and added to the statistics by finish.
	frames, relays, noReceivers, ignored int
	dropped                              [numDropReasons]int
}

// recvBuf is space for the receivers of a message. It is most of the memory that a readBatch
// needs, and separate, so that thousands of read loops can wait without one.
type recvBuf struct {
	ids   [wire.MaxReceivers]uint64
	dests [wire.MaxReceivers]*conn
}

var (
	readBatches = sync.Pool{New: func() any { return new(readBatch) }}
	recvBufs    = sync.Pool{New: func() any { return new(recvBuf) }}
)

// idBuf returns space for the ids of receivers. It is valid until the read loop waits.
func (rb *readBatch) idBuf() []uint64 {
	if rb.recvBuf == nil {
		rb.recvBuf = recvBufs.Get().(*recvBuf)
	}
	return rb.recvBuf.ids[:0]
}

// releaseRecvBuf gives back what is not needed while the read loop waits.
func (rb *readBatch) releaseRecvBuf() {
	if rb.recvBuf != nil {
		recvBufs.Put(rb.recvBuf)
		rb.recvBuf = nil
	}
}

// begin prepares rb for the frames of one read of c.
func (rb *readBatch) begin(c *conn) {
	rb.conn = c
	rb.maxRequests = c.limiter.MaxMessages(c.requests)
	rb.flusher.CopyAccount = c.account
	rb.latency = newLatencySample(c.hub.config.OnLatency)
	if c.hub.config.OnTrace != nil {
		rb.readAt = time.Now()
	}
}

// finish gives back all memory, flushes the outboxes that were offered frames, and updates
// the statistics.
func (rb *readBatch) finish() {
	rb.releaseBuf()
	rb.flusher.Reset()
	rb.releaseRecvBuf()
	counters := &rb.conn.hub.counters
	counters.messagesIn.Add(uint64(rb.frames))
	rb.conn.messagesIn.Add(uint64(rb.frames))
	counters.relays.Add(uint64(rb.relays))
	counters.noReceivers.Add(uint64(rb.noReceivers))
	counters.ignored.Add(uint64(rb.ignored))
	for reason, n := range rb.dropped {
		if n > 0 {
			counters.recordDrop(DropReason(reason), n)
		}
	}
	rb.frames, rb.relays, rb.noReceivers, rb.ignored, rb.dropped = 0, 0, 0, 0, [numDropReasons]int{}
	rb.conn, rb.flusher.CopyAccount, rb.readAt, rb.latency = nil, nil, time.Time{}, nil
}

// handleFrames handles the frames of a read in order. It reports whether frames are left that
// must wait, because too many replies are not written, or the rate limit stops the client for
// now.
func (rb *readBatch) handleFrames() (more bool, err error) {
	var f socket.Frame
	for !rb.repliesBlocked() && rb.conn.requests < rb.maxRequests {
		ok, err := rb.conn.sock.Next(&f)
		if err == nil && ok {
			rb.frames++
			if f.Type != wire.TypePong && f.Type != wire.TypeAck {
				rb.conn.requests++ // PONG and ACK may answer the hub
			}
			err = rb.handleFrame(&f)
		}
		if err != nil {
			rb.offerBatch() // the frames before were valid
			return false, err
		}
		if !ok {
			return false, rb.offerBatch()
		}
	}
	return true, rb.offerBatch()
}

// handleFrame handles one frame. The first frame decides the protocol version of the client.
func (rb *readBatch) handleFrame(f *socket.Frame) error {
	isFirst := !rb.conn.firstFrameSeen
	rb.conn.firstFrameSeen = true
	switch {
	case rb.conn.v2.Load() != nil && f.Type >= wire.TypeHello:
		return rb.handleV2Frame(f)
	case isFirst && f.Type == wire.TypeHello:
		if err := handleHello(rb.conn, f.Payload, &rb.flusher); err != nil {
			return err
		}
		return rb.waitInitialRateLimit()
	case isFirst && rb.conn.provisional:
		return rb.conn.rejectProvisional(false)
	case isFirst && rb.conn.hub.authRequired():
		if err := rb.conn.authenticate(1, ""); err != nil {
			return err
		}
		rb.conn.assignID()
		rb.conn.registerClient()
		if err := rb.waitInitialRateLimit(); err != nil {
			return err
		}
	case isFirst:
		rb.conn.registerOnce.Do(rb.conn.registerClient)
	}
	switch f.Type {
	case wire.TypeRelay:
		return rb.handleRelay(f)
	case wire.TypeIdentity:
		return rb.handleIdentity()
	case wire.TypeList:
		return rb.handleList()
	default:
		rb.ignored++
		return nil
	}
}

// handleRelay adds a RELAY to the batch, or begins a new batch.
func (rb *readBatch) handleRelay(f *socket.Frame) error {
	r, err := wire.ParseRelay(f.Payload)
	if err != nil {
		return err
	}
	if maxBody := rb.conn.maxBody(); len(r.Body) > maxBody {
		return fmt.Errorf("%w: body of %d bytes exceeds the limit of %d", wire.ErrTooLong, len(r.Body), maxBody)
	}
	rb.relays++
	if r.To.Len() == 0 {
		rb.noReceivers++
		return nil
	}
	if f.OwnsBuffer {
		return rb.relayInPlace(f, r)
	}
	if err := rb.ensureRoom(r.To, sendOptions{}, wire.RelayDeliveryLen(len(r.Body))); err != nil {
		return err
	}
	rb.appendFrame(func(b []byte) []byte { return wire.AppendRelayDelivery(b, r.Body) })
	rb.batch.Messages = true
	return nil
}

// relayInPlace relays a frame that owns its buffer without a copy: the header of the delivery
// is written over the end of the ids, right before the body, and the queues of the receivers
// refer to the buffer. Such a frame is the only one of its read, and there is no batch before
// it.
func (rb *readBatch) relayInPlace(f *socket.Frame, r wire.Relay) error {
	ids := r.To.AppendTo(rb.idBuf())
	end := wire.RelayLen(len(ids), len(r.Body))
	start := end - wire.RelayDeliveryLen(len(r.Body))
	wire.PutRelayDeliveryHeader(f.Buffer.Bytes()[start:end], len(r.Body))
	return rb.send(ids, &outbox.Batch{Buffer: f.Buffer, From: start, To: end, Frames: 1, Messages: true})
}

// handleIdentity replies in the order of the requests: behind messages that the client has
// sent to itself.
func (rb *readBatch) handleIdentity() error {
	if err := rb.ensureRoom(nil, sendOptions{}, wire.IdentityLen); err != nil {
		return err
	}
	rb.appendFrame(func(b []byte) []byte { return wire.AppendIdentity(b, rb.conn.id.Load()) })
	return nil
}

// handleList replies with the ids of the other clients.
func (rb *readBatch) handleList() error {
	// what can wait does so before the list is made
	if rb.receivers != nil || rb.conn.session() != nil {
		if err := rb.offerBatch(); err != nil {
			return err
		}
	}
	return rb.appendListReply(func(ids []uint64) (n int, frame func([]byte) []byte) {
		before, after := split(ids, rb.conn.id.Load())
		return wire.ListLen(len(before) + len(after)), func(b []byte) []byte { return wire.AppendList(b, before, after) }
	})
}

// appendListReply appends a reply of n bytes that build makes of the list of clients, as far
// as this client can see it. The list is made when there is memory for the reply. Otherwise
// each of thousands of clients that wait for memory would keep a list of its own while
// clients come and go.
func (rb *readBatch) appendListReply(build func(ids []uint64) (n int, frame func([]byte) []byte)) error {
	for {
		var ids []uint64
		if rb.conn.canList() {
			ids = rb.conn.hub.registry.IDs()
		}
		n, frame := build(ids)
		if rb.replyFits(n) {
			rb.appendFrame(frame)
			return nil
		}
		// after a wait, the list is a different one
		if err := rb.ensureRoom(nil, sendOptions{}, n); err != nil {
			return err
		}
	}
}

// replyFits reports whether a reply of n bytes can be appended to the batch.
func (rb *readBatch) replyFits(n int) bool {
	return rb.buf != nil && rb.receivers == nil && rb.options == sendOptions{} && len(rb.buf.Bytes())-rb.batch.To >= n
}

// ensureRoom makes sure that a frame of size bytes with these options and receivers can be
// appended to the batch. If it cannot, ensureRoom offers the batch and begins another.
func (rb *readBatch) ensureRoom(receivers wire.IDs, opts sendOptions, size int) error {
	hasRoom := rb.buf != nil && len(rb.buf.Bytes())-rb.batch.To >= size
	same := opts == rb.options && bytes.Equal(rb.receivers, receivers)
	if same && rb.batch.Frames == 1 { // a longer batch has passed this check
		same = !hasDuplicates(rb.idBuf(), receivers)
	}
	if !hasRoom || !same {
		if err := rb.offerBatch(); err != nil {
			return err
		}
	}
	if !hasRoom {
		if err := rb.allocBuf(size, receivers); err != nil {
			return err
		}
	}
	rb.receivers, rb.options = receivers, opts
	return nil
}

// allocBuf gets a buffer to encode into: of at least minSize bytes for these receivers, and
// if possible large enough for everything that the rest of this read can lead to. If it has
// to wait, these receivers are asked for acknowledgements first, because what the client has
// sent before most likely went to the same receivers.
func (rb *readBatch) allocBuf(minSize int, receivers wire.IDs) error {
	rb.releaseBuf()
	c := rb.conn
	preferred := c.sock.Pending()
	if receivers == nil && c.session() == nil {
		preferred = min(preferred, maxReplyBytes)
	}
	preferred = max(minSize, preferred)
	buf := c.tryAcquireBuf(minSize, preferred)
	if buf == nil {
		c.requestReceiverAcks(receivers)
		var err error
		if buf, err = rb.waitBuf(minSize, preferred); err != nil {
			return err
		}
	}
	rb.buf, rb.batch = buf, outbox.Batch{Buffer: buf}
	return nil
}

// tryAcquireBuf returns a buffer of at least minSize and at best preferred bytes, without
// waiting, or nil if there is none.
func (c *conn) tryAcquireBuf(minSize, preferred int) *body.Buffer {
	buf := c.account.TryAcquire(preferred)
	if buf == nil && minSize <= minPerClient/2 { // fails only if the client holds as much already
		buf = c.account.TryAcquire(min(preferred, minPerClient/2))
	}
	return buf
}

// waitBuf gets a buffer as tryAcquireBuf does, and waits for memory if necessary. While it
// waits, it holds no memory for which others wait, and delays no other client.
func (rb *readBatch) waitBuf(minSize, preferred int) (*body.Buffer, error) {
	c := rb.conn
	if buf := c.tryAcquireBuf(minSize, preferred); buf != nil {
		return buf, nil
	}
	rb.releaseBuf()
	rb.flusher.Reset()
	rb.releaseRecvBuf()
	c.sock.ReleaseFrame() // a large frame here is no message, and its payload is not needed
	buf, err := c.account.Acquire(preferred, c.done.Done())
	switch {
	case err == nil:
		return buf, nil
	case c.done.IsSet():
		return nil, errConnClosed
	}
	return nil, socket.ErrInterrupted
}

// releaseBuf releases the buffer of the batch, which must have been offered.
func (rb *readBatch) releaseBuf() {
	if rb.buf != nil {
		rb.buf.Release()
		rb.buf = nil
	}
	rb.batch, rb.receivers, rb.options = outbox.Batch{}, nil, sendOptions{}
}

// appendFrame appends one frame to the batch. ensureRoom must have made room for it.
func (rb *readBatch) appendFrame(encode func([]byte) []byte) {
	rb.batch.To = len(encode(rb.buf.Bytes()[:rb.batch.To]))
	rb.batch.Frames++
}

// offerBatch offers the batch to its receivers, and begins another one in the rest of the
// buffer.
func (rb *readBatch) offerBatch() error {
	if rb.batch.Frames == 0 {
		return nil
	}
	batch := rb.batch
	rb.batch = outbox.Batch{Buffer: rb.buf, From: batch.To, To: batch.To}
	if rb.receivers == nil {
		return rb.offerReplies(&batch)
	}
	return rb.send(rb.receivers.AppendTo(rb.idBuf()), &batch)
}

// offerReplies queues frames for the client itself.
func (rb *readBatch) offerReplies(batch *outbox.Batch) error {
	if rb.conn.session() == nil {
		rb.conn.offerReplies(batch, &rb.flusher)
		return nil
	}
	return rb.waitBlocked(rb.conn.sock.Offer(batch, &rb.flusher) == outbox.Blocked)
}

// send offers a batch to all receivers before it waits for those whose queue is full. A slow
// receiver thus delays only its senders. SENDs of version 2 are not waited for: ACKs tell the
// client when it can send more.
func (rb *readBatch) send(ids []uint64, batch *outbox.Batch) error {
	dests := rb.recvBuf.dests[:len(ids)]
	rb.conn.hub.registry.Find(ids, dests)
	forbidden := rb.conn.removeForbidden(ids, dests)
	r := rb.newRecorders(ids, dests, batch)
	if rb.options.isSend {
		batch.Reliable = true
		rb.conn.session().onSent(rb.lastSeq, rb.cost)
	}
	var translated *outbox.Batch // for receivers of the other protocol version
	blocked := false
	for i, dest := range dests {
		r.beforeOffer(i)
		if dest == nil {
			reason := DropUnknown
			if forbidden.has(i) {
				reason = DropForbidden
			}
			rb.recordDrop(&r, i, reason, 0, batch.Frames)
			continue
		}
		b := batch
		if r.isV2(i, dest) != rb.options.isSend {
			if translated == nil {
				translated = rb.translate(batch)
			}
			b = translated
		}
		b.Receiver = i
		blocked = rb.offerTo(dest, b, &r) || blocked
		dests[i] = nil
	}
	if translated != nil {
		translated.Buffer.Release()
	}
	if rb.options.isSend {
		rb.notifyQueued(blocked)
		return nil
	}
	return rb.waitBlocked(blocked)
}

// offerTo offers a batch to one receiver, and reports whether the batch or a part of it is
// blocked there.
func (rb *readBatch) offerTo(dest *conn, b *outbox.Batch, r *recorders) (blocked bool) {
	outcome := dest.sock.Offer(b, &rb.flusher)
	switch outcome {
	case outbox.TooLarge:
		return rb.offerParts(dest, b, r)
	case outbox.Closed:
		rb.dropped[DropGone] += b.Frames // onEnqueue records the fate
	}
	r.onEnqueue(b, outcome)
	return outcome == outbox.Blocked
}

// offerParts offers the frames of a batch that are not too large for the receiver, in
// contiguous parts, and records the drop of the others. It reports whether a part is blocked.
func (rb *readBatch) offerParts(dest *conn, b *outbox.Batch, r *recorders) (blocked bool) {
	maxFrame := dest.sock.MaxFrame()
	part := *b
	part.To, part.Frames = part.From, 0
	offerPart := func() {
		if part.Frames > 0 {
			// in smaller parts if the receiver's maximum has shrunk
			blocked = rb.offerTo(dest, &part, r) || blocked
		}
		part.From, part.First, part.Frames = part.To, part.First+part.Frames, 0
	}
	for frame := range wire.Frames(b.Buffer.Bytes()[b.From:b.To]) {
		if maxFrame == 0 || len(frame) <= maxFrame {
			part.To += len(frame)
			part.Frames++
			continue
		}
		offerPart()
		rb.recordDrop(r, b.Receiver, DropTooLarge, part.First, 1)
		part.To += len(frame)
		part.From, part.First = part.To, part.First+1
	}
	offerPart()
	return blocked
}

// recordDrop counts frames that are not offered to one receiver, and records their fate.
func (rb *readBatch) recordDrop(r *recorders, receiver int, reason DropReason, first, frames int) {
	rb.dropped[reason] += frames
	r.recordFate(receiver, dropReasons[reason].fate, first, frames)
}

// notifyQueued has session.onQueued called when the SENDs that were offered last are all
// queued.
func (rb *readBatch) notifyQueued(blocked bool) {
	s, lastSeq := rb.conn.session(), rb.lastSeq
	if blocked {
		rb.flusher.OnUnblocked(func() { s.onQueued(lastSeq) })
	} else {
		s.onQueued(lastSeq)
	}
}

// waitBlocked waits until every blocked batch is queued, or its receiver gone. A client of
// version 2 is still read meanwhile, up to maxBlockedReplies, because its ACKs may be what
// makes the room.
func (rb *readBatch) waitBlocked(blocked bool) error {
	if !blocked {
		return nil
	}
	rb.releaseRecvBuf()
	if s := rb.conn.session(); s != nil {
		s.addBlockedReplies(1)
		rb.flusher.OnUnblocked(func() { s.addBlockedReplies(-1) })
		return rb.waitUntil(s, s.canReadRequests)
	}
	if !rb.flusher.Wait(rb.conn.done.Done()) {
		return errConnClosed
	}
	return nil
}

// hasDuplicates reports whether receivers names a client twice. Then each message must be a
// batch of its own: in a longer batch, the second copy of the first message would come after
// the first copy of the last. buf must have room for all ids.
func hasDuplicates(buf []uint64, receivers wire.IDs) bool {
	if receivers.Len() < 2 {
		return false
	}
	ids := receivers.AppendTo(buf)
	slices.Sort(ids)
	return len(slices.Compact(ids)) < receivers.Len()
}

// split returns the ids below and above id. ids must be ascending.
func split(ids []uint64, id uint64) (before, after []uint64) {
	i, found := slices.BinarySearch(ids, id)
	if !found {
		return ids, nil
	}
	return ids[:i], ids[i+1:]
}
