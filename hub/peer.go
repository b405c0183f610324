package hub

import (
	"crypto/rand"
	"crypto/subtle"
	"sync"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// peer is a client of version 2: what outlives its connections.
type peer struct {
	// Static after newPeer.
	hub     *Hub
	id      uint64
	secret  string
	reports socket.Terms // those of a REPORT
	takens  socket.Terms // those of a TAKEN

	// Owned by the reading goroutine of the session that it has.
	seq uint64 // of the last SEND

	mu      sync.Mutex
	session *session // that it has, or had last
	yields  bool     // that one was asked to end
	claimed bool     // somebody is about to go on with it
	over    bool     // nobody can go on with it any more

	flights  []flight
	owed     int           // cost of what is in flights
	untold   int           // cost of what was taken since the last TAKEN
	telling  bool          // that one waits to be written: then there is no need of another
	taken    uint64        // seq up to which everything is queued
	pending  int           // SENDs whose REPORT is not written
	answers  int           // that wait for room in its own queue, each for one read
	room     chan struct{} // capacity 1: one of these went down
	awaiting map[ackKey]*batch
}

// flight is SENDs that were offered at once and wait for room somewhere.
type flight struct {
	upTo   uint64 // seq of the last
	cost   int
	landed bool
}

// ackKey names a message as its receivers do.
type ackKey struct{ sender, seq uint64 }

func newPeer(s *session) *peer {
	p := &peer{hub: s.hub, id: s.id.Load(), secret: rand.Text(), session: s, room: make(chan struct{}, 1)}
	p.reports = socket.Terms{Tracker: parted(p.reported), IfFull: socket.Insist}
	p.takens = socket.Terms{Tracker: parted(p.told), IfFull: socket.Insist}
	return p
}

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
		close(s.link.Load().yield)
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
	s.end(ReasonLost)
}

// adopt makes s the peer's session after a claim.
func (p *peer) adopt(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session, p.claimed, p.yields = s, false, false
}

// settle ends the time in which somebody could go on with what s has left. It
// reports whether somebody has.
func (p *peer) settle(s *session) bool {
	p.mu.Lock()
	claimed := p.claimed
	p.over = !claimed && p.session == s
	p.mu.Unlock()
	if claimed { // in this moment: it will be moved, or end
		select {
		case <-s.link.Load().moved:
			return true
		case <-s.done:
		}
	}
	return false
}

// current returns the session that the peer has, or had last.
func (p *peer) current() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session
}

// launch notes SENDs that were offered. landed must be called when none of them
// waits for room any more.
func (p *peer) launch(upTo uint64, cost int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flights = append(p.flights, flight{upTo: upTo, cost: cost})
	p.owed += cost
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
		p.owed -= p.flights[n].cost
		p.untold += p.flights[n].cost
		p.taken = p.flights[n].upTo
		n++
	}
	p.flights = append(p.flights[:0], p.flights[n:]...)
	p.stir()
	p.mu.Unlock()
	p.tell(tellEvery)
}

// tellEvery is the cost of SENDs that are taken before the client is told so unasked.
const tellEvery = credit / 4

// tell sends a TAKEN when SENDs of that cost were taken, and the last TAKEN has left.
func (p *peer) tell(least int) {
	p.mu.Lock()
	tell := p.untold >= least && !p.telling
	if tell {
		p.untold, p.telling = 0, true
	}
	taken, s := p.taken, p.session
	p.mu.Unlock()
	if tell && !s.post(wire.AppendTaken(nil, taken), &p.takens) {
		p.told(1)
	}
}

// told notes that a TAKEN has left, or never will.
func (p *peer) told(int) {
	p.mu.Lock()
	p.telling = false
	p.mu.Unlock()
	p.tell(tellEvery)
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

// stir wakes the reader if it waits for room. It is called with mu held.
func (p *peer) stir() {
	select {
	case p.room <- struct{}{}:
	default:
	}
}

// fits reports whether one more SEND of that cost may come in, and adds it to the
// reports to be made.
func (p *peer) fits(cost int, report bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owed > 0 && p.owed+cost > credit+wire.SendCost(wire.MaxReceivers, 0) {
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
	s := p.current()
	buffer := s.account.Force(len(frames))
	defer buffer.Release()
	piece := socket.Piece{Buffer: buffer, To: copy(buffer.Bytes(), frames), Frames: n, Counted: true, Terms: &p.reports}
	if s.offer(&piece) != socket.Queued {
		p.reported(n)
	}
}

// reported notes that REPORTs have left, or never will.
func (p *peer) reported(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending -= n
	p.stir()
}

// parted is told of frames that have left, or never will.
type parted func(frames int)

// Progress tells it: see socket.Tracker.
func (f parted) Progress(_ int, what socket.Progress, _, frames int) {
	if what == socket.Written || what == socket.Unsent {
		f(frames)
	}
}

// The terms of other frames that the hub sends on its own.
var (
	insisting = socket.Terms{IfFull: socket.Insist}
	modest    = socket.Terms{IfFull: socket.Refuse}
)

// post queues a frame for the client and reports whether it was taken.
func (s *session) post(frame []byte, terms *socket.Terms) bool {
	buffer := s.account.Force(len(frame))
	defer buffer.Release()
	piece := socket.Piece{Buffer: buffer, To: copy(buffer.Bytes(), frame), Frames: 1, Terms: terms}
	return s.offer(&piece) == socket.Queued
}

// offer offers one piece to the client and gets it on its way.
func (s *session) offer(piece *socket.Piece) socket.Outcome {
	var d socket.Dispatch
	outcome := s.conn.Offer(piece, &d)
	d.Flush()
	return outcome
}
