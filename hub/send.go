package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

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
	case wire.TypeRenew:
		err = rb.handleRenew(f)
	case wire.TypePong:
		_, err = wire.ParseUint64(f.Payload)
	case wire.TypeBye:
		return errBye
	case wire.TypeHello, wire.TypeWelcome, wire.TypeDeliver, wire.TypeReport, wire.TypeListPage,
		wire.TypePresence, wire.TypeError, wire.TypeGoAway, wire.TypeSkip, wire.TypeRenewed:
		return rb.sendError(0, wire.ErrorFrame, fmt.Sprintf("unexpected frame type %#x", uint8(f.Type)))
	default:
		rb.ignored++
	}
	if errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrTooLong) {
		return &goAway{code: wire.GoAwayProtocol, reason: CloseMalformed, err: err}
	}
	return err
}

// handleSend relays a SEND as soon as the client is allowed to send it.
func (rb *readBatch) handleSend(s *session, f *socket.Frame) error {
	m, err := wire.ParseSend(f.Payload)
	if err != nil {
		return err
	}
	if !rb.builder.HasMessages() { // replies first: while they are blocked, another connection may take over
		if err := rb.offerBatch(); err != nil {
			return err
		}
	}
	rb.sender.ReadAt() // before any wait
	cost := relay.CostOf(m.To.Len(), len(m.Body))
	if admitted, err := rb.admitSend(s, &m, cost.InFlight); !admitted {
		return err
	}
	if err = rb.appendSend(s, f, &m, cost); err != nil && s.lastSeq != m.Seq && m.Options.Level() != wire.LevelNone {
		s.onReportsWritten(1) // interrupted: the client sends it again
	}
	return err
}

// appendSend adds an admitted SEND to the batch, or begins a new batch. It may wait for
// memory.
func (rb *readBatch) appendSend(s *session, f *socket.Frame, m *wire.Send, cost relay.Cost) error {
	opts := relay.Options{IsSend: true, Wire: m.Options, Expires: rb.expiry(m, f)}
	d := wire.Deliver{Sender: s.id, Seq: m.Seq, Time: uint64(rb.sender.ReadAt().UnixMicro()), Flags: opts.DeliverFlags()}
	gap := opts.Tracked() && m.Seq != s.lastSeq+1
	switch {
	case m.To.Len() == 0:
		return rb.sendWithoutReceivers(s, m.Seq, opts, cost)
	case f.OwnsBuffer:
		rb.commitSend(s, m.Seq)
		return rb.sendInPlace(f, m, &d, opts, cost)
	case gap || opts.Unbatchable():
		if err := rb.offerBatch(); err != nil {
			return err
		}
	}
	if err := rb.ensureRoom(m.To, opts, wire.DeliverLen(len(m.Body))); err != nil {
		return err
	}
	rb.commitSend(s, m.Seq)
	if rb.builder.Frames() == 0 {
		rb.firstSeq, rb.cost = m.Seq, relay.Cost{}
	}
	rb.lastSeq, rb.cost = m.Seq, rb.cost.Plus(cost)
	d.Body = m.Body
	rb.builder.Append(m.To, opts, func(b []byte) []byte { return wire.AppendDeliver(b, &d) })
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
		began = rb.sender.ReadAt().UnixNano()
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

// sendWithoutReceivers handles a SEND that names no receiver, and reports it if requested.
func (rb *readBatch) sendWithoutReceivers(s *session, seq uint64, opts relay.Options, cost relay.Cost) error {
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
	if opts.Wire.Level() != wire.LevelNone {
		s.sendReports(wire.AppendReport(nil, seq, nil), 1)
	}
	return nil
}

// sendInPlace is relayInPlace for a SEND: the header of the DELIVER just fits before the
// body.
func (rb *readBatch) sendInPlace(f *socket.Frame, m *wire.Send, d *wire.Deliver, opts relay.Options, cost relay.Cost) error {
	ids := m.To.AppendTo(rb.sender.IDBuf())
	end := wire.SendLen(len(ids), len(m.Body))
	start := end - wire.DeliverLen(len(m.Body))
	wire.PutDeliverHeader(f.Buffer.Bytes()[start:end], d, len(m.Body))
	rb.firstSeq, rb.lastSeq, rb.cost = m.Seq, m.Seq, cost
	return rb.send(ids, opts, outbox.Batch{Buffer: f.Buffer, From: start, To: end, Frames: 1, Messages: true})
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
	rb.sender.Flusher.Reset()
	rb.sender.ReleaseRecvBuf()
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
	rb.conn.v2.Load().unconfirmed = false
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
		if !s.verdicts.Apply(v) {
			rb.ignored++ // too late, or not requested
		}
	}
	return nil
}
