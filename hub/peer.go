package hub

import (
	"crypto/rand"
	"crypto/subtle"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// peer is a client of version 2: what outlives its connections.
type peer struct {
	// Static after newPeer.
	hub     *Hub
	id      uint64
	subject string // who it is
	secret  string
	reports socket.Terms // those of a REPORT
	control socket.Terms // those of a TAKEN and of a PING

	// Owned by the reading goroutine of the session that it has, or of the one that has claimed it.
	seq      uint64          // of the last SEND
	attempts socket.Attempts // to write the first frame that the client does not have

	mu      sync.Mutex
	session *session // that it has, or had last
	yields  bool     // that one was asked to end
	claimed bool     // somebody is about to go on with it
	over    bool     // nobody can go on with it any more

	flights  []flight
	owed     int           // cost of what is in flights
	untold   int           // cost of what was taken since the last TAKEN
	telling  bool          // that one waits to be written: then there is no need of another
	asked    bool          // somebody wants to hear at once what has been taken since
	pinging  bool          // a PING waits to be written
	taken    uint64        // seq up to which everything is queued
	pending  int           // SENDs whose REPORT is not written
	answers  int           // that wait for room in its own queue, each for one read
	room     chan struct{} // capacity 1: one of these went down; nil: nobody has waited for that yet
	block    *body.Buffer  // where REPORTs are written, while one of those in it is needed
	used     int           // bytes of it
	awaiting map[ackKey]*batch
}

// flight is SENDs that were offered at once and wait for room somewhere.
type flight struct {
	upTo   uint64 // seq of the last
	cost   sendCost
	landed bool
}

// receiverCost is what each receiver of a SEND counts against the credit, in bytes
// (docs/decisions/0016).
const receiverCost = 16

// sendCost is what SENDs count against the credit of their client, in bytes.
type sendCost struct {
	owed int // with receiverCost: what is admitted
	told int // with wire.DefaultReceiverCost: a client from before that field expects TAKEN by this count
}

func costOf(m *wire.Send) sendCost {
	return sendCost{
		owed: wire.SendCost(m.To.Len(), len(m.Body), receiverCost),
		told: wire.SendCost(m.To.Len(), len(m.Body), wire.DefaultReceiverCost),
	}
}

func (c sendCost) plus(d sendCost) sendCost { return sendCost{c.owed + d.owed, c.told + d.told} }

// ackKey names a message as its receivers do.
type ackKey struct{ sender, seq uint64 }

func newPeer(s *session) *peer {
	p := &peer{hub: s.hub, id: s.id.Load(), subject: s.subject(), secret: rand.Text(), session: s}
	p.reports = socket.Terms{Tracker: reporting{p}, IfFull: socket.Insist}
	p.control = socket.Terms{Tracker: controlling{p}, IfFull: socket.Overtake}
	return p
}

// What a frame of the peer's control terms is, as Piece.At.
const (
	atTaken = iota
	atPing
)

// knows reports whether that is the secret. It takes as long for a wrong one.
func (p *peer) knows(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(p.secret), []byte(secret)) == 1
}

// ask has a session end because another wants to go on with its peer.
func (p *peer) ask(s *session) {
	p.mu.Lock()
	first := p.session == s && !p.yields
	p.yields = p.yields || first
	p.mu.Unlock()
	if first {
		s.link.Load().yield.Set()
		s.halt()
		s.conn.Interrupt()
	}
}

// claim reserves the peer for the one who goes on with what s has left.
func (p *peer) claim(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session != s || p.claimed || p.over {
		return false
	}
	p.claimed = true
	return true
}

// release undoes a claim that came to nothing. What s has left cannot be had any
// more by the one who claimed, so it ends.
func (p *peer) release(s *session) {
	p.mu.Lock()
	p.claimed = false
	p.mu.Unlock()
	s.end(s.link.Load().reason) // its reading has ended, or there would be no claim
}

// adopt makes s the peer's session after a claim. What was taken since its WELCOME was
// written is to be told.
func (p *peer) adopt(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session, p.claimed, p.yields = s, false, false
	p.untold++
}

// omitted counts messages that the client does not get although it has come back.
func (p *peer) omitted(messages socket.Omitted) {
	c := &p.hub.counters
	c.gone.Add(uint64(messages.Unreachable))
	c.tooLarge.Add(uint64(messages.Oversized))
	if messages.Unreachable > 0 {
		p.hub.config.Logger.Info("message given up", "client", p.id, "cause", "no connection of the client carries it")
	}
}

// settle ends the time in which somebody could go on with what s has left. It
// reports whether somebody has.
func (p *peer) settle(s *session) bool {
	p.mu.Lock()
	mine, claimed := p.session == s, p.claimed
	p.over = mine && !claimed
	p.mu.Unlock()
	return !mine || claimed && s.overtaken() // in this moment: it will be moved, or end
}

// launch notes SENDs that were offered. landed must be called when none of them
// waits for room any more.
func (p *peer) launch(upTo uint64, cost sendCost) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flights = append(p.flights, flight{upTo: upTo, cost: cost})
	p.owed += cost.owed
}

// landed notes that the SENDs that were launched up to upTo are all queued, or
// have met another fate.
func (p *peer) landed(upTo uint64) {
	p.mu.Lock()
	for i := range p.flights {
		if p.flights[i].upTo == upTo {
			p.flights[i].landed = true
			break
		}
	}
	n := 0
	for n < len(p.flights) && p.flights[n].landed {
		p.owed -= p.flights[n].cost.owed
		p.untold += p.flights[n].cost.told
		p.taken = p.flights[n].upTo
		n++
	}
	p.flights = append(p.flights[:0], p.flights[n:]...)
	p.stir()
	least := p.tellLeast()
	p.mu.Unlock()
	p.tell(least)
}

// tellLeast is the cost of SENDs that are taken before the client is told so, unasked or as it has asked. It is called with mu held.
func (p *peer) tellLeast() int {
	if p.asked {
		return 1
	}
	return p.tellEvery()
}

// tellEvery is the cost of SENDs that are taken before the client is told so unasked.
func (p *peer) tellEvery() int { return p.hub.config.Credit / 4 }

// tell sends a TAKEN when SENDs of that cost were taken. There is one at a time.
func (p *peer) tell(least int) {
	p.mu.Lock()
	tell := p.untold >= least && !p.telling
	if tell {
		p.untold, p.telling, p.asked = 0, true, false
	} else if p.telling && least < p.tellEvery() {
		p.asked = true
	}
	taken, s := p.taken, p.session
	p.mu.Unlock()
	if tell && !s.postAt(wire.AppendTaken(nil, taken), &p.control, atTaken) {
		p.told()
	}
}

// tellAll sends a TAKEN for all that was taken, and another when something more is, if more is under way: a client that asks
// is perhaps blocked by just that.
func (p *peer) tellAll() {
	p.tell(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = p.asked || p.owed > 0
}

// told notes that a TAKEN has left, or never will.
func (p *peer) told() {
	p.mu.Lock()
	p.telling = false
	p.asked = p.asked && p.owed+p.untold > 0
	least := p.tellLeast()
	p.mu.Unlock()
	p.tell(least)
}

// ping asks the client for a sign of life. There is one PING at a time.
func (p *peer) ping(s *session) {
	p.mu.Lock()
	ping := !p.pinging
	p.pinging = true
	p.mu.Unlock()
	if ping && !s.postAt(wire.AppendPing(nil, uint64(time.Now().UnixMicro())), &p.control, atPing) {
		p.pinged()
	}
}

// pinged notes that a PING has left, or never will.
func (p *peer) pinged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pinging = false
}

// answer notes that one answer more, or one less, waits for room.
func (p *peer) answer(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers += n
	p.stir()
}

// mayAsk reports whether further requests may be read.
func (p *peer) mayAsk() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answers < answersMost
}

// hasTaken returns the seq up to which everything is queued.
func (p *peer) hasTaken() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

// waitable returns the channel that receives a value when there may be room.
func (p *peer) waitable() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.room == nil {
		p.room = make(chan struct{}, 1)
	}
	return p.room
}

// stir wakes the reader if it waits for room. It is called with mu held.
func (p *peer) stir() {
	select { // nobody receives from a nil channel
	case p.room <- struct{}{}:
	default:
	}
}

// fits reports whether one more SEND of that cost may come in, and adds it to the
// reports to be made.
func (p *peer) fits(cost int, report bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owed > 0 && p.owed+cost > p.hub.config.Credit+wire.SendCost(wire.MaxReceivers, 0, receiverCost) {
		return false
	}
	if report {
		if p.pending >= p.hub.config.MaxReports {
			return false
		}
		p.pending++
	}
	return true
}

// report queues REPORTs for the peer, wherever it is connected.
func (p *peer) report(frames []byte, n int) {
	s, piece := p.write(frames)
	piece.Frames, piece.Counted, piece.Terms = n, true, &p.reports
	if s.offer(&piece) != socket.Queued {
		p.reported(n)
	}
}

// reportBlock is how many bytes of REPORTs lie together: of the smallest, 146.
const reportBlock = 2 << 10

// write puts REPORTs where they are sent from, and kept until they are acknowledged: so
// that little ones take little. The piece has a reference to its buffer. What they take must not
// count against the share of the client's own messages: it is given back when the client has
// acknowledged them, which may stand behind a message that waits for room in that share.
func (p *peer) write(frames []byte) (*session, socket.Piece) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.session
	if len(frames) > reportBlock {
		buffer := s.account.ForceOverhead(len(frames))
		return s, socket.Piece{Buffer: buffer, To: copy(buffer.Bytes(), frames)}
	}
	if p.block == nil || p.block.Account() != s.account || len(p.block.Bytes())-p.used < len(frames) {
		p.dropBlock()
		p.block = s.account.ForceOverhead(reportBlock)
	}
	from := p.used
	p.used += copy(p.block.Bytes()[from:], frames)
	p.block.Retain()
	return s, socket.Piece{Buffer: p.block, From: from, To: p.used}
}

// dropBlock gives up the block. It is called with mu held.
func (p *peer) dropBlock() {
	if p.block != nil {
		p.block.Release()
		p.block, p.used = nil, 0
	}
}

// reported notes that REPORTs have left, or never will.
func (p *peer) reported(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending -= n
	p.tidy()
	p.stir()
}

// tidy gives up the block when nothing in it is needed any more. It is called with mu held.
func (p *peer) tidy() {
	if p.block != nil && !p.block.Shared() {
		p.dropBlock()
	}
}

// reporting is told what becomes of REPORTs.
type reporting struct{ peer *peer }

// Progress takes note: see socket.Tracker.
func (r reporting) Progress(_ int, what socket.Progress, _, frames int) {
	switch p := r.peer; what {
	case socket.Written, socket.Unsent:
		p.reported(frames)
	case socket.Received, socket.Unheard:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tidy()
	}
}

// controlling is told when a TAKEN or a PING has left, or never will.
type controlling struct{ peer *peer }

// Progress takes note: see socket.Tracker.
func (c controlling) Progress(at int, what socket.Progress, _, _ int) {
	switch {
	case what != socket.Written && what != socket.Unsent:
	case at == atTaken:
		c.peer.told()
	default:
		c.peer.pinged()
	}
}

// The terms of other frames that the hub sends on its own.
var (
	overtaking = socket.Terms{IfFull: socket.Overtake}
	insisting  = socket.Terms{IfFull: socket.Insist}
	modest     = socket.Terms{IfFull: socket.Refuse}
)

// post queues a frame for the client and reports whether it was taken.
func (s *session) post(frame []byte, terms *socket.Terms) bool { return s.postAt(frame, terms, 0) }

// postAt is post for terms whose Tracker has to tell frames apart.
func (s *session) postAt(frame []byte, terms *socket.Terms, at int) bool {
	piece := s.pieceOf(frame, terms)
	piece.At = at
	return s.offer(&piece) == socket.Queued
}

// pieceOf returns a piece with a buffer of its own.
func (s *session) pieceOf(frame []byte, terms *socket.Terms) socket.Piece {
	buffer := s.account.ForceOverhead(len(frame))
	return socket.Piece{Buffer: buffer, To: copy(buffer.Bytes(), frame), Frames: 1, Terms: terms}
}

// offer offers one piece to the client and gets it on its way. It takes over the
// reference to the buffer, and gives it up before anything is written.
func (s *session) offer(piece *socket.Piece) socket.Outcome {
	var d socket.Dispatch
	outcome := s.conn.Offer(piece, &d)
	piece.Buffer.Release()
	d.Flush()
	return outcome
}
