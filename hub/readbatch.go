package hub

import (
	"fmt"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// readBatch is pooled state for the frames of one read. A connection that waits for bytes
// holds none.
type readBatch struct {
	conn    *conn
	sender  relay.Sender
	builder relay.Builder

	// Of the SENDs that are being sent, or in the batch of builder.
	firstSeq, lastSeq uint64
	cost              relay.Cost

	// underWay is the cost of the batches of version 1 that were sent to other hubs: Flusher has
	// blocked sends, for which conn.underWay is to count it.
	underWay int

	maxRequests uint64 // value of rateLimiter.requests at which the rate limit stops the client

	// Counted here, and added to the statistics by finish.
	frames, relays, noReceivers, ignored int
}

var readBatches = sync.Pool{New: func() any { return new(readBatch) }}

// begin prepares rb for the frames of one read of c.
func (rb *readBatch) begin(c *conn) {
	rb.conn = c
	rb.maxRequests = c.rate.maxRequests()
	rb.sender.Begin(c.hub.relay, c.account)
}

// finish gives back all memory, flushes the outboxes that were offered frames, and updates
// the statistics.
func (rb *readBatch) finish() {
	rb.builder.Release()
	rb.sender.Reset()
	counters := &rb.conn.hub.counters
	counters.messagesIn.Add(uint64(rb.frames))
	rb.conn.messagesIn.Add(uint64(rb.frames))
	counters.relays.Add(uint64(rb.relays))
	counters.noReceivers.Add(uint64(rb.noReceivers))
	counters.ignored.Add(uint64(rb.ignored))
	rb.frames, rb.relays, rb.noReceivers, rb.ignored = 0, 0, 0, 0
	rb.conn, rb.underWay = nil, 0
}

// handleFrames handles the frames of a read in order. It reports whether frames are left that
// must wait, because too many replies are not written, or the rate limit stops the client for
// now.
func (rb *readBatch) handleFrames() (more bool, err error) {
	var f socket.Frame
	for !rb.repliesBlocked() && rb.conn.rate.requests < rb.maxRequests {
		ok, err := rb.conn.sock.Next(&f)
		if err == nil && ok {
			rb.frames++
			if f.Type != wire.TypePong && f.Type != wire.TypeAck {
				rb.conn.rate.requests++ // PONG and ACK may answer the hub
			}
			err = rb.handleFrame(&f)
		}
		if err != nil {
			rb.offerBatch() // the frames before were valid
			return false, err
		}
		if !ok {
			return false, rb.offerLast()
		}
	}
	return true, rb.offerLast()
}

// offerLast offers the last batch of a read.
func (rb *readBatch) offerLast() error {
	if err := rb.offerBatch(); err != nil {
		return err
	}
	return rb.waitUnderWay()
}

// waitUnderWay bounds what a client of version 1 has under way to other hubs: it waits until that
// is less than Config.Credit, without what this read has brought. If nothing were under way while
// the hub reads, hubs and NATS would wait for each other in turn, a round trip for each read.
func (rb *readBatch) waitUnderWay() error {
	c, n := rb.conn, rb.underWay
	if n > 0 {
		rb.underWay = 0
		if c.underWay == nil {
			c.underWay = new(underWay)
		}
		under := c.underWay
		under.add(n)
		rb.sender.Flusher.OnUnblocked(func() { under.release(n) })
	}
	limit := n + c.hub.config.Credit
	if c.underWay.isBelow(limit) {
		return nil
	}
	rb.sender.Flusher.Flush()
	rb.sender.ReleaseRecvBuf()
	if !c.underWay.wait(limit, c.done.Done()) {
		return errConnClosed
	}
	return nil
}

// repliesBlocked reports whether replies must be written before more frames are handled. It
// flushes them first.
func (rb *readBatch) repliesBlocked() bool {
	if !rb.conn.replies.blocked() {
		return false
	}
	rb.sender.Flusher.Flush()
	return rb.conn.replies.blocked()
}

// waitInitialRateLimit is rateLimiter.wait for a client whose first frame was accepted, perhaps
// with more frames behind it. What the client owes from an earlier connection is due before
// they are handled.
func (rb *readBatch) waitInitialRateLimit() error {
	c := rb.conn
	if c.rate.limiter == nil {
		return nil
	}
	if d := c.rate.charge(c.sock, time.Now()); d > 0 {
		if err := rb.offerBatch(); err != nil {
			return err
		}
		rb.sender.Flusher.Reset() // sends WELCOME
		rb.sender.ReleaseRecvBuf()
		if err := c.rate.waitForTokens(c, d); err != nil {
			return err
		}
	}
	rb.maxRequests = c.rate.maxRequests()
	return nil
}

// handleFrame handles one frame. The first frame decides the protocol version of the client.
func (rb *readBatch) handleFrame(f *socket.Frame) error {
	isFirst := !rb.conn.firstFrameSeen
	rb.conn.firstFrameSeen = true
	switch {
	case rb.conn.v2.Load() != nil && f.Type >= wire.TypeHello:
		return rb.handleV2Frame(f)
	case isFirst && f.Type == wire.TypeHello:
		if err := handleHello(rb.conn, f.Payload, &rb.sender.Flusher); err != nil {
			return err
		}
		return rb.waitInitialRateLimit()
	case isFirst && rb.conn.is(flagWebSocket|flagTunnel):
		return errNoHello
	case isFirst && rb.conn.provisional:
		return rb.conn.hub.admission.rejectProvisional(rb.conn, false)
	case isFirst && rb.conn.hub.auth.required():
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
	if err := rb.ensureRoom(r.To, relay.Options{}, wire.RelayDeliveryLen(len(r.Body))); err != nil {
		return err
	}
	rb.builder.Append(r.To, relay.Options{}, func(b []byte) []byte { return wire.AppendRelayDelivery(b, r.Body) })
	return nil
}

// relayInPlace relays a frame that owns its buffer without a copy: the header of the delivery
// is written over the end of the ids, right before the body, and the queues of the receivers
// refer to the buffer. Such a frame is the only one of its read, and there is no batch before
// it.
func (rb *readBatch) relayInPlace(f *socket.Frame, r wire.Relay) error {
	ids := r.To.AppendTo(rb.sender.IDBuf())
	end := wire.RelayLen(len(ids), len(r.Body))
	start := end - wire.RelayDeliveryLen(len(r.Body))
	wire.PutRelayDeliveryHeader(f.Buffer.Bytes()[start:end], len(r.Body))
	return rb.send(ids, relay.Options{}, outbox.Batch{Buffer: f.Buffer, From: start, To: end, Frames: 1, Messages: true})
}

// ensureRoom makes sure that a frame of size bytes with these options and receivers can be
// appended to the batch. If it cannot, ensureRoom offers the batch and begins another.
func (rb *readBatch) ensureRoom(receivers wire.IDs, opts relay.Options, size int) error {
	hasRoom := rb.builder.HasRoom(size)
	if !hasRoom || !rb.builder.Accepts(receivers, opts, rb.sender.IDBuf) {
		if err := rb.offerBatch(); err != nil {
			return err
		}
	}
	if hasRoom {
		return nil
	}
	return rb.allocBuf(size, receivers)
}

// allocBuf gets a buffer to encode into: of at least minSize bytes for these receivers, and
// if possible large enough for everything that the rest of this read can lead to. If it has
// to wait, these receivers are asked for acknowledgements first, because what the client has
// sent before most likely went to the same receivers.
func (rb *readBatch) allocBuf(minSize int, receivers wire.IDs) error {
	rb.builder.Release()
	c := rb.conn
	preferred := c.sock.Pending()
	if receivers == nil && c.session() == nil {
		preferred = min(preferred, maxReplyBytes)
	}
	preferred = max(minSize, preferred)
	buf := c.tryAcquireBuf(minSize, preferred)
	if buf == nil {
		rb.requestReceiverAcks(receivers)
		var err error
		if buf, err = rb.waitBuf(minSize, preferred); err != nil {
			return err
		}
	}
	rb.builder.SetBuf(buf)
	return nil
}

// requestReceiverAcks requests acknowledgements from those receivers in ids to which the client
// is permitted to send and that have unacknowledged messages.
func (rb *readBatch) requestReceiverAcks(ids wire.IDs) {
	for id := range ids.All() {
		if !rb.conn.canSend(id) {
			continue // a client must not cause PINGs to receivers to which it cannot send
		}
		requestAck(rb.conn.hub.find(id))
	}
}

// waitBuf gets a buffer as tryAcquireBuf does, and waits for memory if necessary. While it
// waits, it delays no other client, and holds no memory for which others wait, except for what a
// client of version 1 has under way to other hubs.
func (rb *readBatch) waitBuf(minSize, preferred int) (*body.Buffer, error) {
	c := rb.conn
	if buf := c.tryAcquireBuf(minSize, preferred); buf != nil {
		return buf, nil
	}
	rb.builder.Release()
	if err := rb.waitUnderWay(); err != nil {
		return nil, err
	}
	rb.sender.Flusher.Reset()
	rb.sender.ReleaseRecvBuf()
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

// offerBatch offers the batch to its receivers, and begins another one in the rest of the
// buffer.
func (rb *readBatch) offerBatch() error {
	if rb.builder.Frames() == 0 {
		return nil
	}
	batch, receivers, opts := rb.builder.Take()
	if receivers == nil {
		return rb.offerReplies(&batch)
	}
	return rb.send(receivers.AppendTo(rb.sender.IDBuf()), opts, batch)
}

// offerReplies queues frames for the client itself.
func (rb *readBatch) offerReplies(batch *outbox.Batch) error {
	if rb.conn.session() == nil {
		rb.conn.offerReplies(batch, &rb.sender.Flusher)
		return nil
	}
	return rb.waitBlocked(rb.conn.sock.Offer(batch, &rb.sender.Flusher) == outbox.Blocked)
}

// send sends a batch to all receivers, and waits for those whose queue is full. SENDs of version
// 2 are not waited for: ACKs tell the client when it can send more.
func (rb *readBatch) send(ids []uint64, opts relay.Options, batch outbox.Batch) error {
	if opts.IsSend {
		rb.conn.session().onSent(rb.lastSeq, rb.cost)
	}
	blocked, underWay := rb.sender.Send(&relay.Messages{Origin: origin{rb.conn}, Options: opts, FirstSeq: rb.firstSeq}, ids, batch)
	if opts.IsSend {
		rb.notifyQueued(blocked || underWay)
		return nil
	}
	switch {
	case blocked:
		rb.underWay = 0 // the wait is for all
	case underWay:
		rb.underWay += batch.To - batch.From + transferCost + relay.ReceiverCost*len(ids)
	}
	return rb.waitBlocked(blocked)
}

// notifyQueued has session.onQueued called when the SENDs that were offered last are all
// queued.
func (rb *readBatch) notifyQueued(blocked bool) {
	s, lastSeq := rb.conn.session(), rb.lastSeq
	if blocked {
		rb.sender.Flusher.OnUnblocked(func() { s.onQueued(lastSeq) })
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
	rb.sender.ReleaseRecvBuf()
	if s := rb.conn.session(); s != nil {
		s.addBlockedReplies(1)
		rb.sender.Flusher.OnUnblocked(func() { s.addBlockedReplies(-1) })
		return rb.waitUntil(s, s.canReadRequests)
	}
	if !rb.sender.Flusher.Wait(rb.conn.done.Done()) {
		return errConnClosed
	}
	return nil
}
