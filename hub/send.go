package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// class is what the messages of a run have in common beside their receivers. The
// zero class is that of version 1, and of what a client gets itself.
type class struct {
	sends   bool // they are SENDs
	options wire.Options
	expires int64 // when they are worth nothing any more, in ns since 1970; 0: never
}

// followed reports whether somebody is to be told what became of the messages, or
// something is to be done about them.
func (c class) followed() bool {
	return c.options.Level() != wire.LevelNone || c.options.Overload() != wire.OverloadWait || c.expires != 0
}

// reportTimeout returns how long the report of a message may wait.
func (c class) reportTimeout(config *Config) time.Duration {
	timeout := config.ReportTimeout
	if named := c.options.ReportTimeout(); named > 0 {
		timeout = min(named, config.MaxReportTimeout)
	}
	if c.expires != 0 {
		timeout = min(timeout, time.Until(time.Unix(0, c.expires)))
	}
	return timeout
}

// handle2 handles what only a client of version 2 says.
func (t *turn) handle2(f *socket.Frame) error {
	p := t.session.peer()
	var err error
	switch f.Type {
	case wire.TypeSend:
		err = t.takeSend(p, f)
	case wire.TypeTaken:
		err = t.acknowledged(f)
	case wire.TypeAck:
		err = t.acked(p, f)
	case wire.TypeListRange:
		err = t.listRange(f)
	case wire.TypeWatch:
		err = t.watch(f)
	case wire.TypePing:
		err = t.ping(f)
	case wire.TypePong:
		_, err = wire.ParseNumber(f.Payload)
	case wire.TypeBye:
		return errBye
	case wire.TypeHello, wire.TypeWelcome, wire.TypeDeliver, wire.TypeReport, wire.TypeListPage,
		wire.TypePresence, wire.TypeError, wire.TypeGoAway, wire.TypeSkip:
		return t.refuse(0, wire.ErrorFrame, fmt.Sprintf("frame type %#x is not for a client to send now", uint8(f.Type)))
	default:
		t.ignored++
	}
	if errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrTooLong) {
		return &goAway{code: wire.GoAwayProtocol, reason: ReasonMalformed, err: err}
	}
	return err
}

// refuse answers one request with an ERROR.
func (t *turn) refuse(seq uint64, code wire.ErrorCode, text string) error {
	h := t.session.hub
	h.counters.errors[code].Add(1)
	h.mistakes.complain(h.config.Logger, "request refused", "reason", code.String(), "client", t.session.id.Load(), "error", text)
	return t.say(wire.AppendError(nil, seq, code, text))
}

// takeSend takes a SEND when the client may send it.
func (t *turn) takeSend(p *peer, f *socket.Frame) error {
	m, err := wire.ParseSend(f.Payload)
	if err != nil {
		return err
	}
	if t.to == nil { // answers go first: while they wait for room, another connection may take over
		if err := t.offer(); err != nil {
			return err
		}
	}
	if t.time.IsZero() {
		t.time = time.Now() // before it waits for anything
	}
	cost := costOf(&m)
	if taken, err := t.admit(p, &m, cost.owed); !taken {
		return err
	}
	if err = t.gather(p, f, &m, cost); err != nil && p.seq != m.Seq && m.Options.Level() != wire.LevelNone {
		p.reported(1) // it was interrupted: the client will send it again
	}
	return err
}

// gather adds a SEND that has been admitted to the run, or begins a new one. It may wait for memory.
func (t *turn) gather(p *peer, f *socket.Frame, m *wire.Send, cost sendCost) error {
	c := class{true, m.Options, t.expires(m, f)}
	d := wire.Deliver{Sender: p.id, Seq: m.Seq, Time: uint64(t.time.UnixMicro()), Flags: flags(m.Options.Level())}
	gap := c.followed() && m.Seq != p.seq+1
	switch {
	case m.To.Len() == 0:
		return t.sendToNobody(p, m.Seq, c, cost)
	case f.Alone:
		t.accept(p, m.Seq)
		return t.sendAlone(f, m, &d, c, cost)
	case gap || c.single():
		if err := t.offer(); err != nil {
			return err
		}
		t.to = nil
	}
	if err := t.join(m.To, c, wire.DeliverLen(len(m.Body))); err != nil {
		return err
	}
	t.accept(p, m.Seq)
	if t.piece.Frames == 0 {
		t.first, t.cost = m.Seq, sendCost{}
	}
	t.last, t.cost = m.Seq, t.cost.plus(cost)
	d.Body = m.Body
	t.encode(func(b []byte) []byte { return wire.AppendDeliver(b, &d) })
	t.piece.Deliveries++
	return nil
}

// accept notes that a SEND is about to be relayed, and nothing is waited for any more: a client that
// comes back does not send it again.
func (t *turn) accept(p *peer, seq uint64) {
	p.seq = seq
	t.relays++
}

// expires returns when a SEND is worth nothing any more, in ns since 1970; 0: never. Its time runs from when
// its start was read: what it waits for afterwards, be it its own rest, is no reason to live longer.
func (t *turn) expires(m *wire.Send, f *socket.Frame) int64 {
	if m.TTL == 0 {
		return 0
	}
	began := f.Began
	if began == 0 {
		began = t.time.UnixNano()
	}
	return began + int64(m.TTL)*int64(time.Millisecond)
}

// admit reports whether a SEND is to be relayed. It waits if the client has more
// under way than it may have.
func (t *turn) admit(p *peer, m *wire.Send, cost int) (bool, error) {
	most := t.session.maxBody()
	switch {
	case m.Seq <= p.seq:
		return false, t.refuse(m.Seq, wire.ErrorSeq, fmt.Sprintf("seq is not above %d, that of the last SEND", p.seq))
	case len(m.Body) > most:
		err := t.refuse(m.Seq, wire.ErrorBody, fmt.Sprintf("body of %d bytes, %d allowed", len(m.Body), most))
		if err == nil {
			p.seq = m.Seq
		}
		return false, err
	}
	reports := m.Options.Level() != wire.LevelNone
	err := t.waitFor(p, func() bool { return p.fits(cost, reports) })
	return err == nil, err
}

// single reports whether each message is a run of its own: because it gets a
// verdict of its own, or may have to give way alone.
func (c class) single() bool {
	return c.options.Level() == wire.LevelProcessed || c.options.Overload() == wire.OverloadDrop
}

// sendToNobody takes a SEND that names no receiver, and reports that if it is
// asked to.
func (t *turn) sendToNobody(p *peer, seq uint64, c class, cost sendCost) error {
	if err := t.offer(); err != nil { // what came before is launched before
		return err
	}
	room, err := t.find(reportBlock, reportBlock) // as if it were relayed: whoever sends waits for memory
	if err != nil {
		return err
	}
	room.Release()
	t.accept(p, seq)
	t.noReceivers++
	p.launch(seq, cost)
	p.landed(seq)
	if c.options.Level() != wire.LevelNone {
		p.report(wire.AppendReport(nil, seq, nil), 1)
	}
	return nil
}

func flags(level wire.Level) (f wire.Flags) {
	switch level {
	case wire.LevelReceived:
		f = wire.FlagReceived
	case wire.LevelProcessed:
		f = wire.FlagReceived | wire.FlagProcessed
	}
	return f
}

// sendAlone is relayAlone for a SEND: there is just the room for the head of the
// DELIVER before the body.
func (t *turn) sendAlone(f *socket.Frame, m *wire.Send, d *wire.Deliver, c class, cost sendCost) error {
	ids := m.To.AppendTo(t.room())
	end := wire.SendLen(len(ids), len(m.Body))
	start := end - wire.DeliverLen(len(m.Body))
	wire.PutDeliverHead(f.Buffer.Bytes()[start:end], d, len(m.Body))
	t.class, t.first, t.last, t.cost = c, m.Seq, m.Seq, cost
	err := t.send(ids, &socket.Piece{Buffer: f.Buffer, From: start, To: end, Frames: 1, Deliveries: 1})
	t.class = class{}
	return err
}

// waitFor waits until the peer has room for more. Whoever keeps to what WELCOME says
// never does: what it says meanwhile, acknowledgements included, is not read.
func (t *turn) waitFor(p *peer, ready func() bool) error {
	if ready() {
		return nil
	}
	if err := t.offer(); err != nil {
		return err
	}
	t.dispatch.Drop()
	t.pause()
	room := p.waitable()
	for !ready() {
		select {
		case <-room:
		case <-t.session.done.Done():
			return errEnded
		case <-t.session.link.Load().halted.Done():
			return socket.ErrInterrupted
		case <-t.session.hub.closing:
			return socket.ErrInterrupted
		}
	}
	return nil
}

// acknowledged handles a TAKEN: the client has had so many counted frames.
func (t *turn) acknowledged(f *socket.Frame) error {
	n, err := wire.ParseNumber(f.Payload)
	t.session.unconfirmed = false
	if err == nil && !t.session.conn.Acknowledge(n) {
		err = fmt.Errorf("%w: TAKEN %d, above what was sent", wire.ErrMalformed, n)
	}
	return err
}

func (t *turn) acked(p *peer, f *socket.Frame) error {
	acks, err := wire.ParseAcks(f.Payload)
	if err != nil {
		return err
	}
	for a := range acks {
		if !p.ack(a) {
			t.ignored++ // too late, or nobody asked
		}
	}
	return nil
}

// ping answers a PING, and tells before what was taken of what came before.
func (t *turn) ping(f *socket.Frame) error {
	n, err := wire.ParseNumber(f.Payload)
	if err == nil {
		err = t.offer()
	}
	if err != nil {
		return err
	}
	t.session.peer().tellAll()
	return t.say(wire.AppendPong(nil, n))
}

// translate makes of a piece what the receivers of the other version are to get.
func (t *turn) translate(piece *socket.Piece) *socket.Piece {
	from := piece.Buffer.Bytes()[piece.From:piece.To]
	s := t.session
	if t.class.sends {
		buffer := s.account.Force(len(from))
		out := buffer.Bytes()[:0]
		for frame := range wire.Frames(from) {
			_, payload := wire.Split(frame)
			d, _ := wire.ParseDeliver(payload) // this hub has made it
			out = wire.AppendDelivery(out, d.Body)
		}
		return &socket.Piece{Buffer: buffer, To: len(out), Frames: piece.Frames, Deliveries: piece.Deliveries, Terms: piece.Terms}
	}
	if t.time.IsZero() {
		t.time = time.Now()
	}
	d := wire.Deliver{Sender: s.id.Load(), Time: uint64(t.time.UnixMicro())}
	buffer := s.account.Force(len(from) + piece.Frames*(wire.DeliverLen(0)-wire.DeliveryLen(0)))
	out := buffer.Bytes()[:0]
	for frame := range wire.Frames(from) {
		_, d.Body = wire.Split(frame)
		out = wire.AppendDeliver(out, &d)
	}
	return &socket.Piece{Buffer: buffer, To: len(out), Frames: piece.Frames, Deliveries: piece.Deliveries, Counted: true, Terms: piece.Terms}
}
