package hub

import (
	"crypto/rand"
	"crypto/subtle"
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// peer is a client of version 2: what outlives its connections.
type peer struct {
	// Static after newPeer.
	hub     *Hub
	id      uint64
	name    string
	secret  string
	reports socket.Terms // those of a REPORT

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

func newPeer(s *session, name string) *peer {
	p := &peer{hub: s.hub, id: s.id.Load(), name: name, secret: rand.Text(), session: s, room: make(chan struct{}, 1)}
	p.reports = socket.Terms{Tracker: reports{p}, IfFull: socket.Insist}
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
	tell := p.untold >= credit/4
	if tell {
		p.untold = 0
	}
	taken, s := p.taken, p.session
	p.stir()
	p.mu.Unlock()
	if tell {
		s.post(wire.AppendTaken(nil, taken), true)
	}
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
	buffer := body.Get(len(frames))
	defer buffer.Release()
	piece := socket.Piece{Buffer: buffer, To: copy(buffer.Bytes(), frames), Frames: n, Counted: true, Terms: &p.reports}
	if p.current().offer(&piece) != socket.Queued {
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

// reports is what an outbox tells of a peer's REPORTs.
type reports struct{ p *peer }

// Progress counts them.
func (r reports) Progress(_ int, what socket.Progress, _, frames int) {
	if what == socket.Written || what == socket.Unsent {
		r.p.reported(frames)
	}
}

// post queues a frame for the client, however much waits for it: what it tells is
// bounded elsewhere. It reports whether the client is there.
func (s *session) post(frame []byte, insist bool) bool {
	buffer := body.Get(len(frame))
	defer buffer.Release()
	copy(buffer.Bytes(), frame)
	piece := socket.Piece{Buffer: buffer, To: len(frame), Frames: 1, Terms: &posted}
	if !insist {
		piece.Terms = &offered
	}
	return s.offer(&piece) == socket.Queued
}

// The terms of frames that the hub sends on its own.
var (
	posted  = socket.Terms{IfFull: socket.Insist}
	offered = socket.Terms{IfFull: socket.Refuse}
)

// offer offers one piece to the client and gets it on its way.
func (s *session) offer(piece *socket.Piece) socket.Outcome {
	var d socket.Dispatch
	outcome := s.conn.Offer(piece, &d)
	d.Flush()
	return outcome
}
