package hub

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// readBatch is what a session needs while it handles the frames of one read: between
// two reads it needs nothing of it.
//
// Consecutive relays to the same receivers, which is what a client sends that
// has much to say to its group, are a run: their deliveries are encoded one
// behind the other into one buffer, and that piece is offered to each receiver
// once. So the cost of a receiver is paid once per run, not once per message.
type readBatch struct {
	conn    *conn
	flusher socket.Flusher
	latency *latencySample // of its deliveries; nil: they are not timed

	// The run that is being gathered: used up to the end of piece.
	buf       *body.Buffer // where frames to receivers are encoded; nil until needed
	batch     socket.Batch // frames of out that are not yet offered
	receivers wire.IDs     // receivers of the piece, a view of the read buffer; nil: the client itself
	options   sendOptions  // what else its messages have in common

	// Of the SENDs in the piece.
	firstSeq, lastSeq uint64 // seq
	cost              sendCost
	readAt            time.Time // when this read was handled; zero: nobody has looked yet

	recvBuf     *recvBuf // nil until needed, and while it waits
	maxRequests uint64   // conn.requests at which the client has sent as much as it may for now

	// What goes into the statistics at the end of the turn.
	frames, relays, noReceivers, ignored, unknown, forbidden, gone, tooLarge int
}

// recvBuf is space for the receivers of a message. It is most of what a turn needs, and apart from it, so that
// thousands of turns may wait without.
type recvBuf struct {
	ids   [wire.MaxReceivers]uint64
	dests [wire.MaxReceivers]*conn
}

var (
	readBatches = sync.Pool{New: func() any { return new(readBatch) }}
	recvBufs    = sync.Pool{New: func() any { return new(recvBuf) }}
)

// idBuf returns space for the ids of receivers. They are gone when the turn waits.
func (rb *readBatch) idBuf() []uint64 {
	if rb.recvBuf == nil {
		rb.recvBuf = recvBufs.Get().(*recvBuf)
	}
	return rb.recvBuf.ids[:0]
}

// releaseRecvBuf gives back what the turn does not need while it waits.
func (rb *readBatch) releaseRecvBuf() {
	if rb.recvBuf != nil {
		recvBufs.Put(rb.recvBuf)
		rb.recvBuf = nil
	}
}

func (rb *readBatch) begin(c *conn) {
	rb.conn = c
	rb.maxRequests = c.maxRequests()
	rb.flusher.CopyAccount = c.account
	rb.latency = newLatencySample(c.hub.config.OnLatency)
	if c.hub.config.OnTrace != nil {
		rb.readAt = time.Now()
	}
}

// finish offers what is left, wakes those who write, and gives back all memory.
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
	counters.unknown.Add(uint64(rb.unknown))
	counters.forbidden.Add(uint64(rb.forbidden))
	counters.gone.Add(uint64(rb.gone))
	counters.tooLarge.Add(uint64(rb.tooLarge))
	rb.frames, rb.relays, rb.noReceivers, rb.ignored, rb.unknown, rb.forbidden, rb.gone, rb.tooLarge = 0, 0, 0, 0, 0, 0, 0, 0
	rb.conn, rb.flusher.CopyAccount, rb.readAt, rb.latency = nil, nil, time.Time{}, nil
}

// handleFrames handles the frames of a read in the order in which they came. It reports whether there are more, for which it is
// too early: the client has not taken what it was answered, or has sent as much as it may for now.
func (rb *readBatch) handleFrames() (more bool, err error) {
	var f socket.Frame
	for !rb.repliesBlocked() && rb.conn.requests < rb.maxRequests {
		ok, err := rb.conn.sock.Next(&f)
		if err == nil && ok {
			rb.frames++
			if f.Type != wire.TypePong && f.Type != wire.TypeAck {
				rb.conn.requests++ // and not what the hub may have asked for
			}
			err = rb.handleFrame(&f)
		}
		if err != nil {
			rb.offerBatch() // what came before was in order
			return false, err
		}
		if !ok {
			return false, rb.offerBatch()
		}
	}
	return true, rb.offerBatch()
}

func (rb *readBatch) handleFrame(f *socket.Frame) error {
	isFirst := !rb.conn.firstFrameSeen
	rb.conn.firstFrameSeen = true
	switch {
	case rb.conn.v2.Load() != nil && f.Type >= wire.TypeHello:
		return rb.handleV2Frame(f)
	case isFirst && f.Type == wire.TypeHello:
		if err := rb.handleHello(f); err != nil {
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

// handleRelay adds a relay to the run, or begins a new one.
func (rb *readBatch) handleRelay(f *socket.Frame) error {
	r, err := wire.ParseRelay(f.Payload)
	if err != nil {
		return err
	}
	if maxBody := rb.conn.maxBody(); len(r.Body) > maxBody {
		return fmt.Errorf("%w: body of %d bytes, %d allowed", wire.ErrTooLong, len(r.Body), maxBody)
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
	rb.batch.Deliveries++
	return nil
}

// relayInPlace relays a frame that has a buffer to itself without a copy: the
// header of the delivery is written over the end of the ids, right before the
// body, and the receivers' queues point at it. Such a frame is the only one of its
// turn, so there is no run before it.
func (rb *readBatch) relayInPlace(f *socket.Frame, r wire.Relay) error {
	ids := r.To.AppendTo(rb.idBuf())
	end := wire.RelayLen(len(ids), len(r.Body))
	start := end - wire.RelayDeliveryLen(len(r.Body))
	wire.PutRelayDeliveryHeader(f.Buffer.Bytes()[start:end], len(r.Body))
	return rb.send(ids, &socket.Batch{Buffer: f.Buffer, From: start, To: end, Frames: 1, Deliveries: 1})
}

// handleIdentity answers in the order of the requests: behind the deliveries that the
// client may have sent to itself.
func (rb *readBatch) handleIdentity() error {
	if err := rb.ensureRoom(nil, sendOptions{}, wire.IdentityLen); err != nil {
		return err
	}
	rb.appendFrame(func(b []byte) []byte { return wire.AppendIdentity(b, rb.conn.id.Load()) })
	return nil
}

func (rb *readBatch) handleList() error {
	if rb.receivers != nil || rb.conn.session() != nil { // what may have to wait does so before the list is made
		if err := rb.offerBatch(); err != nil {
			return err
		}
	}
	return rb.appendListReply(func(ids []uint64) (n int, frame func([]byte) []byte) {
		before, after := split(ids, rb.conn.id.Load())
		return wire.ListLen(len(before) + len(after)), func(b []byte) []byte { return wire.AppendList(b, before, after) }
	})
}

// appendListReply adds an answer of n bytes that make makes of the list of clients, as far as this one may see it. It is made when there is memory
// for it: thousands who wait for some, with others who come and go, would otherwise keep a list each that nobody else has.
func (rb *readBatch) appendListReply(build func(ids []uint64) (n int, frame func([]byte) []byte)) error {
	for {
		var ids []uint64
		if rb.conn.canList() {
			ids = rb.conn.hub.roster.IDs()
		}
		n, frame := build(ids)
		if rb.replyFits(n) {
			rb.appendFrame(frame)
			return nil
		}
		if err := rb.ensureRoom(nil, sendOptions{}, n); err != nil { // if that waits, the list is another afterwards
			return err
		}
	}
}

// replyFits reports whether an answer of n bytes can be encoded behind the run.
func (rb *readBatch) replyFits(n int) bool {
	return rb.buf != nil && rb.receivers == nil && rb.options == sendOptions{} && len(rb.buf.Bytes())-rb.batch.To >= n
}

// ensureRoom makes sure that a frame of n bytes of this class to these receivers can be
// encoded behind the run, and otherwise offers the run and begins another.
func (rb *readBatch) ensureRoom(receivers wire.IDs, opts sendOptions, size int) error {
	hasRoom := rb.buf != nil && len(rb.buf.Bytes())-rb.batch.To >= size
	same := opts == rb.options && bytes.Equal(rb.receivers, receivers)
	if same && rb.batch.Frames == 1 { // a run of more is one that passed
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

// allocBuf gets a buffer to encode into: for n bytes that go to these receivers, and if it can be for
// everything that this read may still lead to. If it has to wait, they are asked what they have
// received: most likely what they are sent next is like what they were sent last.
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
	rb.buf, rb.batch = buf, socket.Batch{Buffer: buf}
	return nil
}

// tryAcquireBuf returns a buffer of at least n bytes for which nobody waits, of all bytes if it can be; nil: there is none.
func (c *conn) tryAcquireBuf(minSize, preferred int) *body.Buffer {
	buf := c.account.TryAcquire(preferred)
	if buf == nil && minSize <= minPerClient/2 { // unless it holds as much already, it has that
		buf = c.account.TryAcquire(min(preferred, minPerClient/2))
	}
	return buf
}

// waitBuf gets memory. If it has to wait, it holds none for which others wait, and delays nobody.
func (rb *readBatch) waitBuf(minSize, preferred int) (*body.Buffer, error) {
	c := rb.conn
	if buf := c.tryAcquireBuf(minSize, preferred); buf != nil {
		return buf, nil
	}
	rb.releaseBuf()
	rb.flusher.Reset()
	rb.releaseRecvBuf()
	c.sock.ReleaseFrame() // a large request that is no relay: its payload means nothing
	buf, err := c.account.Acquire(preferred, c.done.Done())
	switch {
	case err == nil:
		return buf, nil
	case c.done.IsSet():
		return nil, errConnClosed
	}
	return nil, socket.ErrInterrupted
}

// releaseBuf gives up the buffer of the run, which is offered already.
func (rb *readBatch) releaseBuf() {
	if rb.buf != nil {
		rb.buf.Release()
		rb.buf = nil
	}
	rb.batch, rb.receivers, rb.options = socket.Batch{}, nil, sendOptions{}
}

// appendFrame appends one frame to the run. join has made room for it.
func (rb *readBatch) appendFrame(encode func([]byte) []byte) {
	rb.batch.To = len(encode(rb.buf.Bytes()[:rb.batch.To]))
	rb.batch.Frames++
}

// offerBatch hands the run to its receivers.
func (rb *readBatch) offerBatch() error {
	if rb.batch.Frames == 0 {
		return nil
	}
	batch := rb.batch
	rb.batch = socket.Batch{Buffer: rb.buf, From: batch.To, To: batch.To}
	if rb.receivers == nil {
		return rb.offerReplies(&batch)
	}
	return rb.send(rb.receivers.AppendTo(rb.idBuf()), &batch)
}

// offerReplies queues what the client itself is to get.
func (rb *readBatch) offerReplies(batch *socket.Batch) error {
	if rb.conn.session() == nil {
		rb.conn.offerReplies(batch, &rb.flusher)
		return nil
	}
	return rb.waitBlocked(rb.conn.sock.Offer(batch, &rb.flusher) == socket.Blocked)
}

// send offers a piece to every receiver, first to all of them, and then waits
// for those whose queue was full. So a slow receiver delays only its senders. What
// a client of version 2 sends waits by itself: the client is told when it may send
// more.
func (rb *readBatch) send(ids []uint64, batch *socket.Batch) error {
	dests := rb.recvBuf.dests[:len(ids)]
	rb.conn.hub.roster.Find(ids, dests)
	forbidden := rb.conn.removeForbidden(ids, dests)
	r := rb.newRecorders(ids, dests, batch)
	if rb.options.isSend {
		batch.Reliable = true
		rb.conn.session().onSent(rb.lastSeq, rb.cost)
	}
	var translated *socket.Batch // what receivers of the other version get
	blocked := false
	for i, dest := range dests {
		r.beforeOffer(i)
		if dest == nil {
			r.recordDrop(i, rb.countDrop(batch, forbidden.has(i)), 0, batch.Frames)
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

// offerTo offers a piece to one receiver, and reports whether it waits for room there, or a part of it.
func (rb *readBatch) offerTo(dest *conn, b *socket.Batch, r *recorders) (blocked bool) {
	outcome := dest.sock.Offer(b, &rb.flusher)
	switch outcome {
	case socket.TooLarge:
		return rb.offerParts(dest, b, r)
	case socket.Closed:
		rb.gone += b.Deliveries
	}
	r.onEnqueue(b, outcome)
	return outcome == socket.Blocked
}

// offerParts does so with the frames that are not too large for the receiver, as far as they stand together, and
// notes that of the others.
func (rb *readBatch) offerParts(dest *conn, b *socket.Batch, r *recorders) (blocked bool) {
	maxFrame := dest.sock.MaxFrame()
	part := *b
	part.To, part.Frames, part.Deliveries = part.From, 0, 0
	offerPart := func() {
		if part.Frames > 0 {
			blocked = rb.offerTo(dest, &part, r) || blocked // if the receiver takes less by now, in smaller parts
		}
		part.From, part.First, part.Frames, part.Deliveries = part.To, part.First+part.Frames, 0, 0
	}
	for frame := range wire.Frames(b.Buffer.Bytes()[b.From:b.To]) {
		if maxFrame == 0 || len(frame) <= maxFrame {
			part.To += len(frame)
			part.Frames, part.Deliveries = part.Frames+1, part.Deliveries+1
			continue
		}
		offerPart()
		rb.tooLarge++
		r.recordDrop(b.Receiver, wire.FateTooLarge, part.First, 1)
		part.To += len(frame)
		part.From, part.First = part.To, part.First+1
	}
	offerPart()
	return blocked
}

// countDrop counts that a piece goes to nobody at one place, and returns its fate: there is no
// such client, or it is forbidden to the sender.
func (rb *readBatch) countDrop(batch *socket.Batch, forbidden bool) wire.Fate {
	if forbidden {
		rb.forbidden += batch.Deliveries
		return wire.FateRefused
	}
	rb.unknown += batch.Deliveries
	return wire.FateUnknown
}

// notifyQueued lets the client know when the SENDs that were offered last are all queued.
func (rb *readBatch) notifyQueued(blocked bool) {
	s, lastSeq := rb.conn.session(), rb.lastSeq
	if blocked {
		rb.flusher.OnUnblocked(func() { s.onQueued(lastSeq) })
	} else {
		s.onQueued(lastSeq)
	}
}

// waitBlocked waits until every parked piece is queued, or its receiver gone. A client of version 2
// is heard meanwhile, up to a bound: what it says may be what makes the room.
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

// hasDuplicates reports whether anybody stands in to twice. Then every message is a run
// of its own: in a longer one, the second copy of the first message would come
// after the first copy of the last. scratch has room for all ids.
func hasDuplicates(buf []uint64, receivers wire.IDs) bool {
	if receivers.Len() < 2 {
		return false
	}
	ids := receivers.AppendTo(buf)
	slices.Sort(ids)
	return len(slices.Compact(ids)) < receivers.Len()
}

// split returns the ids below and above id. ids are ascending.
func split(ids []uint64, id uint64) (before, after []uint64) {
	i, found := slices.BinarySearch(ids, id)
	if !found {
		return ids, nil
	}
	return ids[:i], ids[i+1:]
}
