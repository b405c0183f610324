package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// sendOptions is what the messages of a batch have in common beside their receivers. The zero
// value is for RELAYs, and for replies to the client itself.
type sendOptions struct {
	isSend      bool // they are SENDs
	wireOptions wire.Options
	expires     int64 // in ns since 1970; 0: never
}

// needsTracking reports whether the messages need a deliveryTracker: for their reports, their
// overflow policy, or their expiry.
func (opts sendOptions) needsTracking() bool {
	return opts.wireOptions.Level() != wire.LevelNone || opts.wireOptions.Overflow() != wire.OverflowBlock || opts.expires != 0
}

// reportTimeout returns how long the REPORT of a message can wait for its fates.
func (opts sendOptions) reportTimeout(config *Config) time.Duration {
	timeout := config.ReportTimeout
	if requested := opts.wireOptions.ReportTimeout(); requested > 0 {
		timeout = min(requested, config.MaxReportTimeout)
	}
	if opts.expires != 0 {
		timeout = min(timeout, time.Until(time.Unix(0, opts.expires)))
	}
	return timeout
}

// handleV2Frame handles a frame that only clients of version 2 send.
func (rb *readBatch) handleV2Frame(f *socket.Frame) error {
	s := rb.conn.session()
	var err error
	switch f.Type {
	case wire.TypeSend:
		err = rb.handleSend(s, f)
	case wire.TypeAck:
		err = rb.handleAck(f)
	case wire.TypeVerdict:
		err = rb.handleVerdict(s, f)
	case wire.TypeListRange:
		err = rb.handleListRange(f)
	case wire.TypeWatch:
		err = rb.handleWatch(f)
	case wire.TypePing:
		err = rb.handlePing(f)
	case wire.TypePong:
		_, err = wire.ParseUint64(f.Payload)
	case wire.TypeBye:
		return errBye
	case wire.TypeHello, wire.TypeWelcome, wire.TypeDeliver, wire.TypeReport, wire.TypeListPage,
		wire.TypePresence, wire.TypeError, wire.TypeGoAway, wire.TypeSkip:
		return rb.sendError(0, wire.ErrorFrame, fmt.Sprintf("unexpected frame type %#x", uint8(f.Type)))
	default:
		rb.ignored++
	}
	if errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrTooLong) {
		return &goAway{code: wire.GoAwayProtocol, reason: CloseMalformed, err: err}
	}
	return err
}

// sendError replies to a request with ERROR.
func (rb *readBatch) sendError(seq uint64, code wire.ErrorCode, text string) error {
	h := rb.conn.hub
	h.counters.errors[code].Add(1)
	h.limitedLog.LogWarn("request rejected", "reason", code.String(), "client", rb.conn.id.Load(), "error", text)
	return rb.sendReply(wire.AppendError(nil, seq, code, text))
}

// sendReply queues a frame for the client itself.
func (rb *readBatch) sendReply(frame []byte) error {
	if err := rb.ensureRoom(nil, sendOptions{}, len(frame)); err != nil {
		return err
	}
	rb.appendFrame(func(b []byte) []byte { return append(b, frame...) })
	return nil
}

// handleSend relays a SEND as soon as the client is allowed to send it.
func (rb *readBatch) handleSend(s *session, f *socket.Frame) error {
	m, err := wire.ParseSend(f.Payload)
	if err != nil {
		return err
	}
	if rb.receivers == nil { // replies first: while they are blocked, another connection may take over
		if err := rb.offerBatch(); err != nil {
			return err
		}
	}
	if rb.readAt.IsZero() {
		rb.readAt = time.Now() // before any wait
	}
	cost := costOf(&m)
	if admitted, err := rb.admitSend(s, &m, cost.inFlight); !admitted {
		return err
	}
	if err = rb.appendSend(s, f, &m, cost); err != nil && s.lastSeq != m.Seq && m.Options.Level() != wire.LevelNone {
		s.onReportsWritten(1) // interrupted: the client sends it again
	}
	return err
}

// appendSend adds an admitted SEND to the batch, or begins a new batch. It may wait for
// memory.
func (rb *readBatch) appendSend(s *session, f *socket.Frame, m *wire.Send, cost sendCost) error {
	opts := sendOptions{true, m.Options, rb.expiry(m, f)}
	d := wire.Deliver{Sender: s.id, Seq: m.Seq, Time: uint64(rb.readAt.UnixMicro()), Flags: deliverFlags(m.Options.Level())}
	gap := opts.needsTracking() && m.Seq != s.lastSeq+1
	switch {
	case m.To.Len() == 0:
		return rb.sendWithoutReceivers(s, m.Seq, opts, cost)
	case f.OwnsBuffer:
		rb.commitSend(s, m.Seq)
		return rb.sendInPlace(f, m, &d, opts, cost)
	case gap || opts.unbatchable():
		if err := rb.offerBatch(); err != nil {
			return err
		}
		rb.receivers = nil
	}
	if err := rb.ensureRoom(m.To, opts, wire.DeliverLen(len(m.Body))); err != nil {
		return err
	}
	rb.commitSend(s, m.Seq)
	if rb.batch.Frames == 0 {
		rb.firstSeq, rb.cost = m.Seq, sendCost{}
	}
	rb.lastSeq, rb.cost = m.Seq, rb.cost.plus(cost)
	d.Body = m.Body
	rb.appendFrame(func(b []byte) []byte { return wire.AppendDeliver(b, &d) })
	rb.batch.Messages = true
	return nil
}

// commitSend records that a SEND is about to be relayed without a further wait: a client that
// resumes does not send it again.
func (rb *readBatch) commitSend(s *session, seq uint64) {
	s.lastSeq = seq
	rb.relays++
}

// expiry returns when a SEND expires, in ns since 1970; 0: never. Its time to live runs from
// when its start was read: later waits, such as the one for the client's rate limit, do not
// prolong it.
func (rb *readBatch) expiry(m *wire.Send, f *socket.Frame) int64 {
	if m.TTL == 0 {
		return 0
	}
	began := f.StartedAt
	if began == 0 {
		began = rb.readAt.UnixNano()
	}
	return began + int64(m.TTL)*int64(time.Millisecond)
}

// admitSend reports whether a SEND is to be relayed. It waits while the client exceeds its
// credit, or Config.MaxReports.
func (rb *readBatch) admitSend(s *session, m *wire.Send, cost int) (bool, error) {
	maxBody := rb.conn.maxBody()
	switch {
	case m.Seq <= s.lastSeq:
		return false, rb.sendError(m.Seq, wire.ErrorSeq, fmt.Sprintf("seq must be greater than %d, that of the last SEND", s.lastSeq))
	case len(m.Body) > maxBody:
		err := rb.sendError(m.Seq, wire.ErrorBody, fmt.Sprintf("body of %d bytes exceeds the limit of %d", len(m.Body), maxBody))
		if err == nil {
			s.lastSeq = m.Seq
		}
		return false, err
	}
	wantsReport := m.Options.Level() != wire.LevelNone
	err := rb.waitUntil(s, func() bool { return s.tryReserve(cost, wantsReport) })
	return err == nil, err
}

// unbatchable reports whether each message must be a batch of its own, because it gets a
// verdict of its own, or can be dropped alone.
func (opts sendOptions) unbatchable() bool {
	return opts.wireOptions.Level() == wire.LevelProcessed || opts.wireOptions.Overflow() == wire.OverflowDropOldest
}

// sendWithoutReceivers handles a SEND that names no receiver, and reports it if requested.
func (rb *readBatch) sendWithoutReceivers(s *session, seq uint64, opts sendOptions, cost sendCost) error {
	if err := rb.offerBatch(); err != nil { // earlier SENDs are in flight first
		return err
	}
	buf, err := rb.waitBuf(reportBufSize, reportBufSize) // as for a SEND with receivers
	if err != nil {
		return err
	}
	buf.Release()
	rb.commitSend(s, seq)
	rb.noReceivers++
	s.onSent(seq, cost)
	s.onQueued(seq)
	if opts.wireOptions.Level() != wire.LevelNone {
		s.sendReports(wire.AppendReport(nil, seq, nil), 1)
	}
	return nil
}

// deliverFlags returns the flags of the DELIVER of a message with that report level.
func deliverFlags(level wire.Level) (f wire.DeliverFlags) {
	switch level {
	case wire.LevelReceived:
		f = wire.DeliverWantAck
	case wire.LevelProcessed:
		f = wire.DeliverWantAck | wire.DeliverWantVerdict
	}
	return f
}

// sendInPlace is relayInPlace for a SEND: the header of the DELIVER just fits before the
// body.
func (rb *readBatch) sendInPlace(f *socket.Frame, m *wire.Send, d *wire.Deliver, opts sendOptions, cost sendCost) error {
	ids := m.To.AppendTo(rb.idBuf())
	end := wire.SendLen(len(ids), len(m.Body))
	start := end - wire.DeliverLen(len(m.Body))
	wire.PutDeliverHeader(f.Buffer.Bytes()[start:end], d, len(m.Body))
	rb.options, rb.firstSeq, rb.lastSeq, rb.cost = opts, m.Seq, m.Seq, cost
	err := rb.send(ids, &outbox.Batch{Buffer: f.Buffer, From: start, To: end, Frames: 1, Messages: true})
	rb.options = sendOptions{}
	return err
}

// waitUntil waits until ready returns true, which s signals. A client that keeps to the
// limits of WELCOME never waits here. Meanwhile nothing of the client is read, not even its
// ACKs.
func (rb *readBatch) waitUntil(s *session, ready func() bool) error {
	if ready() {
		return nil
	}
	if err := rb.offerBatch(); err != nil {
		return err
	}
	rb.flusher.Reset()
	rb.releaseRecvBuf()
	signal := s.readerSignalChan()
	for !ready() {
		select {
		case <-signal:
		case <-rb.conn.done.Done():
			return errConnClosed
		case <-rb.conn.v2.Load().interrupted.Done():
			return socket.ErrInterrupted
		case <-rb.conn.hub.closing:
			return socket.ErrInterrupted
		}
	}
	return nil
}

// handleAck handles an ACK, by which the client says how many reliable frames it has
// received.
func (rb *readBatch) handleAck(f *socket.Frame) error {
	n, err := wire.ParseUint64(f.Payload)
	rb.conn.unconfirmed = false
	if err == nil && !rb.conn.sock.Acknowledge(n) {
		err = fmt.Errorf("%w: ACK %d is above what was sent", wire.ErrMalformed, n)
	}
	return err
}

// handleVerdict handles a VERDICT, by which the client's application decides messages.
func (rb *readBatch) handleVerdict(s *session, f *socket.Frame) error {
	verdicts, err := wire.ParseVerdicts(f.Payload)
	if err != nil {
		return err
	}
	for v := range verdicts {
		if !s.applyVerdict(v) {
			rb.ignored++ // too late, or not requested
		}
	}
	return nil
}

// handlePing replies to a PING, after an ACK for the SENDs before it.
func (rb *readBatch) handlePing(f *socket.Frame) error {
	n, err := wire.ParseUint64(f.Payload)
	if err == nil {
		err = rb.offerBatch()
	}
	if err != nil {
		return err
	}
	rb.conn.session().ackAll()
	return rb.sendReply(wire.AppendPong(nil, n))
}

// translate returns the frames of a batch in the other protocol version, in a buffer of its
// own, which the caller must release.
func (rb *readBatch) translate(batch *outbox.Batch) *outbox.Batch {
	from := batch.Buffer.Bytes()[batch.From:batch.To]
	c := rb.conn
	if rb.options.isSend {
		buffer := c.account.ForceAcquire(len(from))
		out := buffer.Bytes()[:0]
		for frame := range wire.Frames(from) {
			_, payload := wire.Split(frame)
			d, _ := wire.ParseDeliver(payload) // encoded by this hub
			out = wire.AppendRelayDelivery(out, d.Body)
		}
		return &outbox.Batch{Buffer: buffer, To: len(out), Frames: batch.Frames, Messages: true, Options: batch.Options}
	}
	if rb.readAt.IsZero() {
		rb.readAt = time.Now()
	}
	d := wire.Deliver{Sender: c.id.Load(), Time: uint64(rb.readAt.UnixMicro())}
	buffer := c.account.ForceAcquire(len(from) + batch.Frames*(wire.DeliverLen(0)-wire.RelayDeliveryLen(0)))
	out := buffer.Bytes()[:0]
	for frame := range wire.Frames(from) {
		_, d.Body = wire.Split(frame)
		out = wire.AppendDeliver(out, &d)
	}
	return &outbox.Batch{Buffer: buffer, To: len(out), Frames: batch.Frames, Messages: true, Reliable: true, Options: batch.Options}
}
