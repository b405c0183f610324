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

// turn is what a session needs while it handles the frames of one read: between
// two reads it needs nothing of it.
//
// Consecutive relays to the same receivers, which is what a client sends that
// has much to say to its group, are a run: their deliveries are encoded one
// behind the other into one buffer, and that piece is offered to each receiver
// once. So the cost of a receiver is paid once per run, not once per message.
type turn struct {
	session  *session
	dispatch socket.Dispatch
	timer    *stopwatch // of its deliveries; nil: they are not timed

	// The run that is being gathered: used up to the end of piece.
	out   *body.Buffer // where frames to receivers are encoded; nil until needed
	piece socket.Piece // frames of out that are not yet offered
	to    wire.IDs     // receivers of the piece, a view of the read buffer; nil: the client itself
	class class        // what else its messages have in common

	// Of the SENDs in the piece.
	first, last uint64 // seq
	cost        sendCost
	time        time.Time // when this read was handled; zero: nobody has looked yet

	scratch *scratch // nil until needed, and while it waits
	until   uint64   // session.asked at which the client has sent as much as it may for now

	// What goes into the statistics at the end of the turn.
	frames, relays, noReceivers, ignored, unknown, forbidden, gone, tooLarge int
}

// scratch is space for the receivers of a message. It is most of what a turn needs, and apart from it, so that
// thousands of turns may wait without.
type scratch struct {
	ids   [wire.MaxReceivers]uint64
	found [wire.MaxReceivers]*session
}

var (
	turns     = sync.Pool{New: func() any { return new(turn) }}
	scratches = sync.Pool{New: func() any { return new(scratch) }}
)

// room returns space for the ids of receivers. They are gone when the turn waits.
func (t *turn) room() []uint64 {
	if t.scratch == nil {
		t.scratch = scratches.Get().(*scratch)
	}
	return t.scratch.ids[:0]
}

// pause gives back what the turn does not need while it waits.
func (t *turn) pause() {
	if t.scratch != nil {
		scratches.Put(t.scratch)
		t.scratch = nil
	}
}

func (t *turn) begin(s *session) {
	t.session = s
	t.until = s.mayAskUntil()
	t.dispatch.Blocks = s.account
	t.timer = newStopwatch(s.hub.config.Latency)
	if s.hub.config.Trace != nil {
		t.time = time.Now()
	}
}

// finish offers what is left, wakes those who write, and gives back all memory.
func (t *turn) finish() {
	t.drop()
	t.dispatch.Drop()
	t.pause()
	c := &t.session.hub.counters
	c.messagesIn.Add(uint64(t.frames))
	t.session.messagesIn.Add(uint64(t.frames))
	c.relays.Add(uint64(t.relays))
	c.noReceivers.Add(uint64(t.noReceivers))
	c.ignored.Add(uint64(t.ignored))
	c.unknown.Add(uint64(t.unknown))
	c.forbidden.Add(uint64(t.forbidden))
	c.gone.Add(uint64(t.gone))
	c.tooLarge.Add(uint64(t.tooLarge))
	t.frames, t.relays, t.noReceivers, t.ignored, t.unknown, t.forbidden, t.gone, t.tooLarge = 0, 0, 0, 0, 0, 0, 0, 0
	t.session, t.dispatch.Blocks, t.time, t.timer = nil, nil, time.Time{}, nil
}

// handleAll handles the frames of a read in the order in which they came. It reports whether there are more, for which it is
// too early: the client has not taken what it was answered, or has sent as much as it may for now.
func (t *turn) handleAll() (more bool, err error) {
	var f socket.Frame
	for !t.unheard() && t.session.asked < t.until {
		ok, err := t.session.conn.Next(&f)
		if err == nil && ok {
			t.frames++
			if f.Type != wire.TypePong && f.Type != wire.TypeTaken {
				t.session.asked++ // and not what the hub may have asked for
			}
			err = t.handle(&f)
		}
		if err != nil {
			t.offer() // what came before was in order
			return false, err
		}
		if !ok {
			return false, t.offer()
		}
	}
	return true, t.offer()
}

func (t *turn) handle(f *socket.Frame) error {
	first := !t.session.greeted
	t.session.greeted = true
	switch {
	case t.session.link.Load() != nil && f.Type >= wire.TypeHello:
		return t.handle2(f)
	case first && f.Type == wire.TypeHello:
		if err := t.hello(f); err != nil {
			return err
		}
		return t.restAtFirst()
	case first && t.session.provisional:
		return t.session.turnAway(false)
	case first && t.session.hub.guarded():
		if err := t.session.admit(1, ""); err != nil {
			return err
		}
		t.session.assignID()
		t.session.enter()
		if err := t.restAtFirst(); err != nil {
			return err
		}
	case first:
		t.session.entry.Do(t.session.enter)
	}
	switch f.Type {
	case wire.TypeRelay:
		return t.relay(f)
	case wire.TypeIdentity:
		return t.identity()
	case wire.TypeList:
		return t.list()
	default:
		t.ignored++
		return nil
	}
}

// relay adds a relay to the run, or begins a new one.
func (t *turn) relay(f *socket.Frame) error {
	r, err := wire.ParseRelay(f.Payload)
	if err != nil {
		return err
	}
	if most := t.session.maxBody(); len(r.Body) > most {
		return fmt.Errorf("%w: body of %d bytes, %d allowed", wire.ErrTooLong, len(r.Body), most)
	}
	t.relays++
	if r.To.Len() == 0 {
		t.noReceivers++
		return nil
	}
	if f.Alone {
		return t.relayAlone(f, r)
	}
	if err := t.join(r.To, class{}, wire.DeliveryLen(len(r.Body))); err != nil {
		return err
	}
	t.encode(func(b []byte) []byte { return wire.AppendDelivery(b, r.Body) })
	t.piece.Deliveries++
	return nil
}

// relayAlone relays a frame that has a buffer to itself without a copy: the
// header of the delivery is written over the end of the ids, right before the
// body, and the receivers' queues point at it. Such a frame is the only one of its
// turn, so there is no run before it.
func (t *turn) relayAlone(f *socket.Frame, r wire.Relay) error {
	ids := r.To.AppendTo(t.room())
	end := wire.RelayLen(len(ids), len(r.Body))
	start := end - wire.DeliveryLen(len(r.Body))
	wire.PutDeliveryHeader(f.Buffer.Bytes()[start:end], len(r.Body))
	return t.send(ids, &socket.Piece{Buffer: f.Buffer, From: start, To: end, Frames: 1, Deliveries: 1})
}

// identity answers in the order of the requests: behind the deliveries that the
// client may have sent to itself.
func (t *turn) identity() error {
	if err := t.join(nil, class{}, wire.IdentityLen); err != nil {
		return err
	}
	t.encode(func(b []byte) []byte { return wire.AppendIdentity(b, t.session.id.Load()) })
	return nil
}

func (t *turn) list() error {
	if t.to != nil || t.session.peer() != nil { // what may have to wait does so before the list is made
		if err := t.offer(); err != nil {
			return err
		}
	}
	return t.fromList(func(ids []uint64) (n int, frame func([]byte) []byte) {
		before, after := split(ids, t.session.id.Load())
		return wire.ListLen(len(before) + len(after)), func(b []byte) []byte { return wire.AppendList(b, before, after) }
	})
}

// fromList adds an answer of n bytes that make makes of the list of clients, as far as this one may see it. It is made when there is memory
// for it: thousands who wait for some, with others who come and go, would otherwise keep a list each that nobody else has.
func (t *turn) fromList(make func(ids []uint64) (n int, frame func([]byte) []byte)) error {
	for {
		var ids []uint64
		if t.session.mayList() {
			ids = t.session.hub.roster.IDs()
		}
		n, frame := make(ids)
		if t.fits(n) {
			t.encode(frame)
			return nil
		}
		if err := t.join(nil, class{}, n); err != nil { // if that waits, the list is another afterwards
			return err
		}
	}
}

// fits reports whether an answer of n bytes can be encoded behind the run.
func (t *turn) fits(n int) bool {
	return t.out != nil && t.to == nil && t.class == class{} && len(t.out.Bytes())-t.piece.To >= n
}

// join makes sure that a frame of n bytes of this class to these receivers can be
// encoded behind the run, and otherwise offers the run and begins another.
func (t *turn) join(to wire.IDs, c class, n int) error {
	room := t.out != nil && len(t.out.Bytes())-t.piece.To >= n
	same := c == t.class && bytes.Equal(t.to, to)
	if same && t.piece.Frames == 1 { // a run of more is one that passed
		same = !repeats(t.room(), to)
	}
	if !room || !same {
		if err := t.offer(); err != nil {
			return err
		}
	}
	if !room {
		if err := t.draw(n, to); err != nil {
			return err
		}
	}
	t.to, t.class = to, c
	return nil
}

// draw gets a buffer to encode into: for n bytes that go to these receivers, and if it can be for
// everything that this read may still lead to. If it has to wait, they are asked what they have
// received: most likely what they are sent next is like what they were sent last.
func (t *turn) draw(n int, to wire.IDs) error {
	t.drop()
	s := t.session
	all := s.conn.Pending()
	if to == nil && s.peer() == nil {
		all = min(all, answersAtOnce)
	}
	all = max(n, all)
	out := s.tryDraw(n, all)
	if out == nil {
		s.ask(to)
		var err error
		if out, err = t.find(n, all); err != nil {
			return err
		}
	}
	t.out, t.piece = out, socket.Piece{Buffer: out}
	return nil
}

// tryDraw returns a buffer of at least n bytes for which nobody waits, of all bytes if it can be; nil: there is none.
func (s *session) tryDraw(n, all int) *body.Buffer {
	out := s.account.TryDraw(all)
	if out == nil && n <= spareLeast/2 { // unless it holds as much already, it has that
		out = s.account.TryDraw(min(all, spareLeast/2))
	}
	return out
}

// find gets memory. If it has to wait, it holds none for which others wait, and delays nobody.
func (t *turn) find(n, all int) (*body.Buffer, error) {
	s := t.session
	if out := s.tryDraw(n, all); out != nil {
		return out, nil
	}
	t.drop()
	t.dispatch.Drop()
	t.pause()
	s.conn.Forget() // a large request that is no relay: its payload means nothing
	out, err := s.account.Draw(all, s.done.Done())
	switch {
	case err == nil:
		return out, nil
	case s.done.IsSet():
		return nil, errEnded
	}
	return nil, socket.ErrInterrupted
}

// drop gives up the buffer of the run, which is offered already.
func (t *turn) drop() {
	if t.out != nil {
		t.out.Release()
		t.out = nil
	}
	t.piece, t.to, t.class = socket.Piece{}, nil, class{}
}

// encode appends one frame to the run. join has made room for it.
func (t *turn) encode(appendFrame func([]byte) []byte) {
	t.piece.To = len(appendFrame(t.out.Bytes()[:t.piece.To]))
	t.piece.Frames++
}

// offer hands the run to its receivers.
func (t *turn) offer() error {
	if t.piece.Frames == 0 {
		return nil
	}
	piece := t.piece
	t.piece = socket.Piece{Buffer: t.out, From: piece.To, To: piece.To}
	if t.to == nil {
		return t.answer(&piece)
	}
	return t.send(t.to.AppendTo(t.room()), &piece)
}

// answer queues what the client itself is to get.
func (t *turn) answer(piece *socket.Piece) error {
	if t.session.peer() == nil {
		t.session.answer(piece, &t.dispatch)
		return nil
	}
	return t.await(t.session.conn.Offer(piece, &t.dispatch) == socket.Parked)
}

// send offers a piece to every receiver, first to all of them, and then waits
// for those whose queue was full. So a slow receiver delays only its senders. What
// a client of version 2 sends waits by itself: the client is told when it may send
// more.
func (t *turn) send(ids []uint64, piece *socket.Piece) error {
	found := t.scratch.found[:len(ids)]
	t.session.hub.roster.Find(ids, found)
	forbidden := t.session.forbid(ids, found)
	w := t.witness(ids, found, piece)
	if t.class.sends {
		piece.Counted = true
		t.session.peer().launch(t.last, t.cost)
	}
	var other *socket.Piece // what receivers of the other version get
	parked := false
	for i, receiver := range found {
		w.reach(i)
		if receiver == nil {
			w.missed(i, t.miss(piece, forbidden.has(i)), 0, piece.Frames)
			continue
		}
		p := piece
		if w.newer(i, receiver) != t.class.sends {
			if other == nil {
				other = t.translate(piece)
			}
			p = other
		}
		p.At = i
		parked = t.offerTo(receiver, p, &w) || parked
		found[i] = nil
	}
	if other != nil {
		other.Buffer.Release()
	}
	if t.class.sends {
		t.land(parked)
		return nil
	}
	return t.await(parked)
}

// offerTo offers a piece to one receiver, and reports whether it waits for room there, or a part of it.
func (t *turn) offerTo(receiver *session, p *socket.Piece, w *witnesses) (parked bool) {
	outcome := receiver.conn.Offer(p, &t.dispatch)
	switch outcome {
	case socket.TooLarge:
		return t.offerParts(receiver, p, w)
	case socket.Gone:
		t.gone += p.Deliveries
	}
	w.offered(p, outcome)
	return outcome == socket.Parked
}

// offerParts does so with the frames that are not too large for the receiver, as far as they stand together, and
// notes that of the others.
func (t *turn) offerParts(receiver *session, p *socket.Piece, w *witnesses) (parked bool) {
	most := receiver.conn.MaxFrame()
	part := *p
	part.To, part.Frames, part.Deliveries = part.From, 0, 0
	flush := func() {
		if part.Frames > 0 {
			parked = t.offerTo(receiver, &part, w) || parked // if the receiver takes less by now, in smaller parts
		}
		part.From, part.First, part.Frames, part.Deliveries = part.To, part.First+part.Frames, 0, 0
	}
	for frame := range wire.Frames(p.Buffer.Bytes()[p.From:p.To]) {
		if most == 0 || len(frame) <= most {
			part.To += len(frame)
			part.Frames, part.Deliveries = part.Frames+1, part.Deliveries+1
			continue
		}
		flush()
		t.tooLarge++
		w.missed(p.At, wire.FateTooLarge, part.First, 1)
		part.To += len(frame)
		part.From, part.First = part.To, part.First+1
	}
	flush()
	return parked
}

// miss counts that a piece goes to nobody at one place, and returns its fate: there is no
// such client, or it is forbidden to the sender.
func (t *turn) miss(piece *socket.Piece, forbidden bool) wire.Fate {
	if forbidden {
		t.forbidden += piece.Deliveries
		return wire.FateRefused
	}
	t.unknown += piece.Deliveries
	return wire.FateUnknown
}

// land lets the client know when the SENDs that were offered last are all queued.
func (t *turn) land(parked bool) {
	p, last := t.session.peer(), t.last
	if parked {
		t.dispatch.Later(func() { p.landed(last) })
	} else {
		p.landed(last)
	}
}

// await waits until every parked piece is queued, or its receiver gone. A client of version 2
// is heard meanwhile, up to a bound: what it says may be what makes the room.
func (t *turn) await(parked bool) error {
	if !parked {
		return nil
	}
	t.pause()
	if p := t.session.peer(); p != nil {
		p.answer(1)
		t.dispatch.Later(func() { p.answer(-1) })
		return t.waitFor(p, p.mayAsk)
	}
	if !t.dispatch.Wait(t.session.done.Done()) {
		return errEnded
	}
	return nil
}

// repeats reports whether anybody stands in to twice. Then every message is a run
// of its own: in a longer one, the second copy of the first message would come
// after the first copy of the last. scratch has room for all ids.
func repeats(scratch []uint64, to wire.IDs) bool {
	if to.Len() < 2 {
		return false
	}
	ids := to.AppendTo(scratch)
	slices.Sort(ids)
	return len(slices.Compact(ids)) < to.Len()
}

// split returns the ids below and above id. ids are ascending.
func split(ids []uint64, id uint64) (before, after []uint64) {
	at, there := slices.BinarySearch(ids, id)
	if !there {
		return ids, nil
	}
	return ids[:at], ids[at+1:]
}
