package hub

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// answersMost is for how many reads the answers may wait for room in the queue of
	// the one who asked, before it is not read any more. Each takes up to one read
	// buffer of its sender's memory.
	answersMost = 64

	// lastWords is how long a client may take to take its GOAWAY.
	lastWords = time.Second

	// untilDetached is how long the session that a client wants to go on with may take to end: longer
	// than lastWords, and shorter than the first attempt of a client lasts, which is 3 s.
	untilDetached = 2 * time.Second
)

// errBye says that the client leaves for good.
var errBye = errors.New("bye")

// goAway is an error for which a client has to go, and is told so.
type goAway struct {
	code      wire.GoAwayCode
	reason    Reason
	reconnect bool          // whether it makes sense to come back
	after     time.Duration // when, at the earliest
	resumable bool          // whether its session waits for it, as after a loss
	err       error
}

func (g *goAway) Error() string { return g.err.Error() }
func (g *goAway) Unwrap() error { return g.err }

func (g *goAway) frame() []byte {
	return wire.AppendGoAway(nil, &wire.GoAway{Code: g.code, Reason: g.err.Error(), Reconnect: g.reconnect, After: int(g.after.Milliseconds())})
}

// link is what a session has beyond those of version 1, from its HELLO on.
type link struct {
	peer     *peer
	name     string // for people
	yield    latch  // set when another connection wants to go on with the peer
	detached latch  // set when nothing is read or written any more
	moved    latch  // set when another connection has gone on
	halted   latch  // set when the one who reads is to wait for nothing any more

	dismissed atomic.Pointer[goAway] // nil: nobody wants it to go

	// Static once detached is set.
	reason Reason        // why the connection ended
	lasted time.Duration // how long there was one

	silent atomic.Bool // nothing was heard from it for two keep-alive intervals
	last   beat        // owned by Hub.beat
}

func newLink(p *peer, name string) *link {
	return &link{peer: p, name: presentable(name)}
}

// halt ends whatever the one who reads waits for: room, credit, its pace, or memory. It does not end the reading of what has
// come already.
func (s *session) halt() {
	s.link.Load().halted.Set()
	s.account.Interrupt()
}

// hello makes a client of version 2 of one that has said nothing before.
func (t *turn) hello(f *socket.Frame) error {
	h, err := wire.ParseHello(f.Payload)
	if err != nil {
		return &goAway{code: wire.GoAwayProtocol, reason: ReasonMalformed, err: err}
	}
	if h.Version != wire.Version2 {
		return &goAway{code: wire.GoAwayVersion, reason: ReasonVersion,
			err: fmt.Errorf("version %d is not spoken here, %d is", h.Version, wire.Version2)}
	}
	s := t.session
	s.entry.Do(func() {}) // it is registered when it is clear as what
	s.conn.Number(s.hub.config.Window, h.Skip)
	s.limitDeliver(h.MaxBody)
	s.account.Yield = s.yield
	if err := s.admit(wire.Version2, h.Token); err != nil {
		return err
	}
	if resumed, err := t.comeBack(&h); resumed || err != nil {
		return err
	}
	if s.provisional {
		old := s.replaced()
		if old == nil {
			return s.turnAway(true)
		}
		if err := s.takePlaceOf(old); err != nil {
			return err
		}
	}
	s.unlist() // as a client of version 1, if the HELLO came late
	s.assignID()
	p := newPeer(s)
	if !t.welcome(p, 0, false) { // before anybody offers a DELIVER
		return errEnded
	}
	s.unconfirmed = h.Confirms
	l := newLink(p, h.Name)
	s.hub.tracker.upgraded(s, l)
	s.enter()
	s.hub.config.Logger.Debug("client speaks version 2", "client", p.id, "name", l.name)
	return nil
}

// comeBack resumes the session that HELLO names, if it can be. It reports whether it was.
func (t *turn) comeBack(h *wire.Hello) (resumed bool, err error) {
	s := t.session
	crowded := s.provisional
	for h.Resume != "" {
		old, err := s.lingering(h)
		switch {
		case err != nil:
			return false, err
		case old == nil && crowded && !s.provisional: // the place that it took is that of the one who was faster
			return false, s.turnAway(true)
		case old == nil:
			return false, nil
		case old.since.After(s.since): // this one was given up for that, and its HELLO comes late
			return false, &goAway{code: wire.GoAwayTakenOver, reason: ReasonTakenOver, err: errors.New("a newer connection goes on with this id")}
		}
		if err := s.takePlaceOf(old); err != nil {
			return false, err
		}
		if t.resume(old, h) {
			return true, nil
		}
		if !old.overtaken() {
			break
		}
	}
	return false, nil
}

// resume goes on where the peer's last connection has ended. It returns false when
// that cannot be; then nothing has happened but that the old one is over.
func (t *turn) resume(old *session, h *wire.Hello) bool {
	p := old.link.Load().peer
	if !p.claim(old) {
		return false // a third connection is faster
	}
	at, says := position(h)
	again, ok := old.conn.Resumable(at)
	s := t.session
	if !ok || !t.welcome(p, again, true) {
		p.release(old)
		return false
	}
	giveUp := says && p.attempts.Failed(at.Read, old.conn.Begun(at.Read), old.link.Load().lasted)
	omitted, ok := old.conn.Move(&s.conn.Outbox, at, giveUp, &t.dispatch)
	if !ok {
		p.release(old)
		s.end(ReasonLost) // with the WELCOME that speaks of success; it may come again
		return true
	}
	s.unlist()
	s.hub.tracker.upgraded(s, newLink(p, h.Name)) // before the id: see Failed
	s.id.Store(p.id)
	p.adopt(s)
	s.list()
	old.leaveAddress() // now: s may be lost, and its client expected back, before old is over
	old.link.Load().moved.Set()
	p.tell(1)
	s.resumePace()
	s.hub.counters.resumed.Add(1)
	p.omitted(omitted)
	return true
}

// position returns how far a client that comes back has come, and whether it says so of the
// connection before.
func position(h *wire.Hello) (at socket.Position, says bool) {
	at = socket.Position{Received: h.Received, Read: h.Received}
	if h.Read == nil || !h.Skip {
		return at, false
	}
	at.Read = *h.Read
	return at, true
}

// overtaken reports whether another connection has gone on with the peer of s: then
// that one is to be asked.
func (s *session) overtaken() bool {
	moved := &s.link.Load().moved
	select {
	case <-moved.Done():
		return true
	case <-s.done.Done():
	case <-s.hub.closing:
	}
	return moved.IsSet()
}

// welcome answers a HELLO. Nothing that is sent later overtakes that, and it leaves at the end
// of the turn: whoever has read it is a client of version 2 for everybody. It reports whether
// the connection is still there.
func (t *turn) welcome(p *peer, again int, resumed bool) bool {
	s := t.session
	c := &s.hub.config
	w := wire.Welcome{
		Version: wire.Version2, ID: p.id, Resume: p.secret, Resumed: resumed, Again: again, Seq: p.seq, Taken: p.hasTaken(),
		Hub: "go-message-hub", Epoch: s.hub.epoch, GrantsIDs: c.Admit != nil,
		MaxBody: s.maxBody(), MaxDeliver: s.maxDeliver(), MaxReceivers: wire.MaxReceivers, MaxReports: c.MaxReports,
		Credit: c.Credit, ReceiverCost: receiverCost, Window: c.Window, Keepalive: int(c.KeepAlive.Milliseconds()),
		MaxReportTimeout: c.MaxReportTimeout.Milliseconds(),
	}
	if s.grant != nil && !s.grant.Until.IsZero() {
		w.Expires = max(1, s.untilExpiry().Milliseconds())
	}
	piece := s.pieceOf(wire.AppendWelcome(nil, &w), &overtaking)
	defer piece.Buffer.Release()
	return s.conn.Offer(&piece, &t.dispatch) == socket.Queued
}

// say queues a frame for the client itself.
func (t *turn) say(frame []byte) error {
	if err := t.join(nil, class{}, len(frame)); err != nil {
		return err
	}
	t.encode(func(b []byte) []byte { return append(b, frame...) })
	return nil
}

// lingering returns the session that a client wants to go on with: it knows its
// secret, and its connection is over, if need be because of this; or it is newer. If that takes too long, on a
// machine that is busy for instance, the client is asked to come again: it keeps its id.
func (s *session) lingering(hello *wire.Hello) (*session, error) {
	h := s.hub
	old := h.find(hello.ID)
	if old == nil || !s.mayHold(hello.ID) {
		return nil, nil
	}
	l := old.link.Load()
	if l == nil || !l.peer.knows(hello.Resume) || l.peer.subject != s.subject() {
		return nil, nil
	}
	if old.since.After(s.since) {
		return old, nil // which is not to be disturbed
	}
	l.peer.ask(old)
	late := time.NewTimer(untilDetached)
	defer late.Stop()
	select {
	case <-l.detached.Done():
		return old, nil
	case <-old.done.Done():
	case <-h.closing:
	case <-s.done.Done():
		return nil, errEnded
	case <-late.C:
		return nil, &goAway{code: wire.GoAwayBusy, reason: ReasonLost, reconnect: true, err: errors.New("the connection before is not closed yet")}
	}
	return nil, nil
}

// linger ends a connection of version 2 that the client may come back from: it
// keeps what the client has not had, for as long as resumeWindow says. It
// reports whether another connection has gone on; then this session is over
// without having left.
func (s *session) linger(err error) bool {
	l := s.link.Load()
	if l == nil || !resumable(err) || isClosed(s.hub.closing) || !s.conn.Detach() {
		return false
	}
	goesOn := l.yield.IsSet()
	var away *goAway
	switch {
	case goesOn:
		takenOver := goAway{code: wire.GoAwayTakenOver, err: errors.New("another connection goes on with this id")}
		s.conn.LastWords(takenOver.frame(), lastWords)
	case errors.As(err, &away):
		s.conn.LastWords(away.frame(), lastWords)
	default:
		s.conn.Sever()
	}
	s.conn.Outbox.Wait()
	if !s.hub.addresses.lose(s.conn.RemoteAddr(), goesOn, time.Now()) {
		return false
	}
	s.standing = expected
	s.hub.tracker.detach(1)
	defer s.hub.tracker.detach(-1)
	s.hub.config.Logger.Debug("client detached", "client", s.id.Load(), "cause", err)
	l.reason = s.reasonOf(err)
	if goesOn {
		l.reason = ReasonTakenOver
	}
	l.lasted = time.Since(s.since)
	l.detached.Set()
	window := time.NewTimer(s.resumeWindow())
	defer window.Stop()
	select {
	case <-l.moved.Done():
	case <-s.done.Done():
		if !l.moved.IsSet() {
			return false
		}
	case <-s.hub.closing:
		if !l.peer.settle(s) {
			return false
		}
	case <-window.C:
		if !l.peer.settle(s) {
			return false
		}
	}
	s.ending.Do(func() { s.book(l.reason) }) // unless somebody has ended it in this moment
	return true
}

// maxUnconfirmedWindow is how long a client may take to come back that has promised to confirm
// WELCOME and has not: most likely it does not know the secret to come back with. If only the
// confirmation was lost with the connection, its first attempts come well within that time.
const maxUnconfirmedWindow = 5 * time.Second

// resumeWindow returns how long the client may take to come back.
func (s *session) resumeWindow() time.Duration {
	if s.unconfirmed {
		return min(s.hub.config.ResumeWindow, maxUnconfirmedWindow)
	}
	return s.hub.config.ResumeWindow
}

// resumable reports whether a client whose connection has ended like this may come
// back: not if it was the client's own doing, or the hub's.
func resumable(err error) bool {
	var away *goAway
	if errors.As(err, &away) {
		return away.resumable
	}
	return !errors.Is(err, errBye) && !errors.Is(err, errEnded) &&
		!errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLong)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// beat keeps connections of version 2 alive, and gives up those that are not. It
// ends when nobody reads any more.
func (h *Hub) beat() {
	tick := time.NewTicker(h.config.KeepAlive / 2)
	defer tick.Stop()
	var sessions []*session
	for {
		select {
		case <-tick.C:
		case <-h.quiet:
			return
		}
		sessions = h.tracker.appendTo(sessions[:0])
		for _, s := range sessions {
			if l := s.link.Load(); l != nil {
				l.last = s.beat(l.last)
			}
		}
		clear(sessions) // those who end are to be forgotten
	}
}

// beat is how a connection stood at one look, and for how many it has been silent.
type beat struct {
	sent, brought  int64
	waits          uint32 // see socket.Reader.Waits
	unsaid, unread int16  // at most 4
}

// silentSince reports whether a client of which nothing has arrived since the last look has said nothing, by how
// the reading stood then and now. While the hub does not read, what the client says may find no room to
// arrive: then it lives as long as its kernel acknowledges what the hub says, or, where that is not
// known, while it is the hub that makes it wait.
func (s *session) silentSince(then, now uint32) bool {
	if then == now && now%2 == 1 {
		return true // the hub has listened all the time
	}
	if ago, known := s.conn.Acknowledged(); known {
		return ago > s.hub.config.KeepAlive/2
	}
	return !s.is(flagResting)
}

// beat looks at a session, compared with how it stood half an interval ago.
func (s *session) beat(last beat) beat {
	now := beat{sent: s.conn.Pulse().Sent, brought: s.conn.Arrived(), waits: s.conn.Waits()}
	if now.sent == last.sent {
		now.unsaid = min(last.unsaid+1, 4)
	}
	if now.brought == last.brought && s.silentSince(last.waits, now.waits) {
		now.unread = min(last.unread+1, 4)
	}
	switch {
	case now.unread >= 4:
		s.link.Load().silent.Store(true)
		s.halt()
		s.conn.Interrupt() // whoever waits to be resumed does not hear it
	case now.unsaid >= 1 || now.unread >= 2:
		s.peer().ping(s)
	}
	return now
}

// dismiss tells a client why it has to go, if it listens.
func (s *session) dismiss(g *goAway) {
	if g.code == wire.GoAwayShutdown {
		s.retire(g)
		return
	}
	s.unlist()
	s.conn.LetGo() // for nobody hears acknowledgements any more
	enough := time.AfterFunc(lastWords, func() { s.end(g.reason) })
	defer enough.Stop()
	if s.post(g.frame(), &overtaking) && s.conn.Drain(s.done.Done()) {
		s.conn.Farewell(farewell)
	}
}
