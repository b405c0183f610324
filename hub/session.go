package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// farewell is how long a client has to take the end of the stream at shutdown
// before the connection is closed. Closing while something of it is unread would
// make the kernel throw away what it has not yet seen.
const farewell = 100 * time.Millisecond

var (
	// errEnded says that the session was ended by somebody else.
	errEnded = errors.New("session ended")

	// errHandshake says that it has not even begun.
	errHandshake = errors.New("no handshake")

	// errNewStack says that the session goes on in another goroutine: see session.readLoop.
	errNewStack = errors.New("goes on in another goroutine")
)

// idleAfter is for how long a client must be silent for its session to give back the stack that
// handling frames has taken.
const idleAfter = time.Second

// session is one client's life, from Accept to its last goroutine.
type session struct {
	// Static after construction.
	hub     *Hub
	conn    *socket.Conn
	account *body.Account // what its messages hold of the hub's memory
	since   time.Time

	id      atomic.Uint64                 // changes once, when the client turns out to have come back
	link    atomic.Pointer[link]          // nil: it speaks version 1
	heard   atomic.Pointer[chan struct{}] // receives when untaken is less; nil: the one who reads does not wait for that
	untaken atomic.Int32                  // answers in version 1 that the connection has not taken; a long one counts as untakenMost
	flags   atomic.Uint32                 // of sessionFlag

	entry  sync.Once // the client is registered, or is not to be without further ado
	ending sync.Once
	done   latch // set by end

	// Owned by the reading goroutine.
	asked       uint64      // frames, without those that only answer
	woken       int64       // when frames came while it was not busy, in ns since the hub's start
	greeted     bool        // the first frame has come
	asks        bool        // something in version 1, in the last turn
	busy        bool        // this goroutine reads on until the client is idle: see readLoop
	unconfirmed bool        // the client has not yet said that WELCOME has come, so perhaps it cannot resume
	provisional bool        // it is beyond a limit, and may only resume
	refusal     Refusal     // beyond which
	standing    standing    // among the connections of its address
	placed      bool        // it counts against Config.MaxClients; guarded by tracker.mu
	grant       *Grant      // what it may do; nil: everything
	pace        *pace       // how fast it may send; nil: as it likes
	answers     *answers    // those that are not all taken; nil: none
	due         *time.Timer // when it must have said who it is, and then when it must go; nil: never

	watched *watched // owned by Hub.relieve; nil: by nobody

	// Added to once for each read and for each write. They stand apart from what
	// everybody reads who sends something to the client.
	messagesIn, messagesOut atomic.Uint64
}

// sessionFlag is something that is so or not. One word holds all of them.
type sessionFlag = uint32

const (
	flagListed  sessionFlag = 1 << iota // it was a client, be it for a moment
	flagResting                         // it is not read, because it is faster than it may be
	flagLeft                            // leaveAddress was called
)

// is reports whether a flag is set.
func (s *session) is(flag sessionFlag) bool { return s.flags.Load()&flag != 0 }

// newSession prepares the session of a connection. Nobody knows of it yet.
func newSession(h *Hub, nc net.Conn) *session {
	s := &session{
		hub:     h,
		account: h.bodies.Account(h.share),
		since:   time.Now(),
	}
	if !h.guarded() {
		s.pace = h.newPace(nc.RemoteAddr(), nil)
	}
	if !h.guarded() {
		s.id.Store(h.classicIDs.Next()) // which another replaces if it turns out to speak version 2
	}
	s.conn = socket.New(nc, &h.socket, s)
	return s
}

// handshaker is a connection over which there must be an agreement first: that of
// crypto/tls.
type handshaker interface {
	HandshakeContext(context.Context) error
}

// enter makes the client one of those who are connected.
func (s *session) enter() {
	if old := s.list(); old != nil { // the id was granted to both
		old.sendAway(&goAway{code: wire.GoAwayTakenOver, reason: ReasonTakenOver, err: errors.New("another connection has this id now")})
	}
	s.hub.config.Logger.Info("client connected", "client", s.id.Load(), "address", s.conn.RemoteAddr().String())
}

// handshake agrees with the client on how to speak.
func (s *session) handshake(secure handshaker) error {
	patience := s.hub.config.HandshakeTimeout
	if s.provisional {
		patience = min(patience, provisionalTimeout)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		s.hub.handshakes.complain(s.hub.config.Logger, "no handshake", "reason", ReasonHandshake.String(), "address", s.conn.RemoteAddr().String(), "error", err)
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	return nil
}

// beginListening bounds what may come before the client is known: who must say who it is has to do so
// in time, and who need not is registered after a while without a word.
func (s *session) beginListening() {
	switch {
	case s.provisional: // which is bounded already
	case s.hub.guarded():
		s.awaitAdmission()
	default:
		s.hub.unregistered.add(s)
	}
}

// list puts the session on the list of clients. It returns the one that had its place.
func (s *session) list() (old *session) {
	id := s.id.Load()
	s.flags.Or(flagListed)
	if old = s.hub.roster.Join(id, s); old == nil { // the id was not there
		s.hub.presence.note(id, true)
	}
	if s.done.IsSet() { // by Shutdown, which may have come too early to find it listed
		s.unlist()
	}
	return old
}

// unlist takes it off.
func (s *session) unlist() { s.unlistAs(s.id.Load()) }

func (s *session) unlistAs(id uint64) {
	if s.hub.roster.Leave(id, s) {
		s.hub.presence.note(id, false)
	}
}

// start serves the client in goroutines that end when the connection does.
func (s *session) start(nc net.Conn) {
	if s.provisional {
		s.limitProvisional()
	}
	if secure, ok := nc.(handshaker); ok {
		go s.shakeHands(secure)
		return
	}
	s.beginListening()
	go s.readLoop()
}

// shakeHands does the handshake, and goes on in a goroutine that has needed no stack for it.
func (s *session) shakeHands(secure handshaker) {
	if err := s.handshake(secure); err != nil {
		s.stop(err)
		return
	}
	s.beginListening()
	go s.readLoop() // ends when the connection does
}

// readLoop serves the client until something ends that, and then ends the session.
//
// Handling frames takes a stack of 4 or 8 KiB, and the runtime never shrinks one below 4 KiB. The
// 2 KiB of a new goroutine are enough to wait for bytes. So a session goes on in a new one when it
// has handled the frames that came first after an idle time, and when it is idle again: a client
// that says something now and then takes no more memory than a silent one, and a busy one
// is served by one goroutine all the time.
func (s *session) readLoop() {
	err := s.serve()
	if err == errNewStack {
		go s.readLoop() // ends when the connection does
		return
	}
	s.stop(err)
}

// stop ends a session that is not read any more, because of err.
func (s *session) stop(err error) {
	s.hintAtProxy(err)
	if s.provisional && (errors.Is(err, socket.ErrInterrupted) || errors.Is(err, wire.ErrTooLong)) && !isClosed(s.hub.closing) {
		err = s.turnAway(false)
	}
	if s.due != nil {
		s.due.Stop()
	}
	err = s.causeOf(err)
	s.retirePace()
	s.conn.Drop()           // before it waits for anything: others may wait for this memory
	s.hub.presence.leave(s) // before anybody goes on with it, who may want to watch as well
	s.hub.tracker.reading.Done()
	moved := s.linger(err)
	if !moved {
		s.end(s.leave(err))
	}
	s.conn.Wait()
	if p := s.peer(); p != nil && !moved {
		p.silence()
	}
	s.leaveAddress()
	s.hub.tracker.remove(s)
}

// leaveAddress gives back the place that the session has among the connections of its address. Only the first
// call counts; standing must not change any more.
func (s *session) leaveAddress() {
	if s.flags.Or(flagLeft)&flagLeft == 0 {
		s.hub.addresses.leave(s.conn.RemoteAddr(), s.standing, time.Now())
	}
}

// causeOf returns why the session ends whose reading has ended with err: a word of the hub's counts, unless
// it lets the client come back and the client has left.
func (s *session) causeOf(err error) error {
	l := s.link.Load()
	if l == nil {
		return err
	}
	if away := l.dismissed.Load(); away != nil && (!away.resumable || resumable(err)) {
		return away
	}
	return err
}

// serve handles what the client sends until something ends it, or it is to go on in another
// goroutine.
func (s *session) serve() error {
	counted := s.conn.Brought()         // bytes that are in the statistics
	defer func() { s.count(counted) }() // bytes of an unfinished frame
	for {
		err := s.read()
		if err == socket.ErrIdle {
			s.busy = false
			return errNewStack
		}
		if err != nil {
			return err
		}
		for more := true; more; {
			more, err = s.turn()
			counted = s.count(counted)
			if err != nil {
				return err
			}
			if err = s.untilHeard(); err != nil {
				return err
			}
			if more {
				err = s.rest()
			}
			if err != nil {
				return err
			}
		}
		if !s.stays() {
			return errNewStack
		}
	}
}

// stays reports whether this goroutine is to read on after it has handled what came.
func (s *session) stays() bool {
	if s.busy {
		return true
	}
	now := int64(time.Since(s.hub.started)) + 1 // so that it is never 0
	s.busy = s.woken > 0 && now-s.woken < int64(idleAfter)
	if s.woken == 0 && s.link.Load() != nil {
		// The TAKEN that confirms WELCOME follows HELLO at once. It is not to count as a second
		// wake-up within idleAfter.
		now -= int64(idleAfter)
	}
	s.woken = now
	if s.busy {
		s.conn.NotifyIdle(idleAfter)
	}
	return s.busy
}

// read waits until there is something to handle, and the client may be read.
func (s *session) read() error {
	if !s.greeted && s.pace != nil && s.pace.debt(time.Now()) > 0 {
		return s.readType()
	}
	if err := s.rest(); err != nil {
		return err
	}
	s.tidyAnswers()
	s.conn.ReadAtOnce(s.readAtOnce())
	return s.conn.Fill()
}

// readType reads only as much of the first frame as tells its type. If that is no HELLO, the client speaks
// version 1, and what it owes from an earlier connection is due before the frame is read.
func (s *session) readType() error {
	s.conn.ReadAtOnce(wire.HeaderSize)
	if err := s.conn.Fill(); err != nil {
		return err
	}
	if t, known := s.conn.NextType(); known && t != wire.TypeHello {
		return s.rest()
	}
	return nil
}

// turn handles the whole frames of one read, and reports whether there are more.
func (s *session) turn() (more bool, err error) {
	t := turns.Get().(*turn)
	t.begin(s)
	more, err = t.handleAll()
	t.finish()
	turns.Put(t)
	return more, err
}

// count brings the statistics up to what was read. They have counted bytes of that already. It
// returns how many they have now.
func (s *session) count(counted int64) int64 {
	brought := s.conn.Brought()
	s.hub.counters.bytesIn.Add(uint64(brought - counted))
	return brought
}

// leave does what is still owed to a client whose reading has ended, and returns
// the reason for its end.
func (s *session) leave(err error) Reason {
	var away *goAway
	reason := s.reasonOf(err)
	switch {
	case errors.As(err, &away) && !away.resumable: // otherwise linger has told it
		s.dismiss(away)
	case reason == ReasonShutdown && !errors.Is(err, errHandshake):
		s.depart()
	case errors.Is(err, errBye):
		if s.drain() {
			s.conn.Farewell(farewell) // it may have ended its side behind that: over TLS by a record that is not read
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.drain()
	}
	return reason
}

// reasonOf returns the reason by which the end of a connection counts whose reading has ended
// with err.
func (s *session) reasonOf(err error) Reason {
	var away *goAway
	closing := isClosed(s.hub.closing)
	switch {
	case errors.As(err, &away) && !(away.resumable && closing):
		return away.reason
	case closing && (away != nil || errors.Is(err, errHandshake) || errors.Is(err, socket.ErrInterrupted)):
		return ReasonShutdown
	case errors.Is(err, errHandshake):
		return ReasonHandshake
	case errors.Is(err, errRefused):
		return ReasonRefused
	case errors.Is(err, errBye), errors.Is(err, io.EOF):
		return ReasonLeft
	case errors.Is(err, io.ErrUnexpectedEOF):
		return ReasonHalfFrame
	case errors.Is(err, socket.ErrFrameTimeout):
		return ReasonFrameTimeout
	case errors.Is(err, wire.ErrTooLong):
		return ReasonTooLong
	case errors.Is(err, wire.ErrMalformed):
		return ReasonMalformed
	case errors.Is(err, socket.ErrInterrupted):
		if l := s.link.Load(); l != nil && l.silent.Load() {
			return ReasonTimeout
		}
	}
	return ReasonLost
}

// drain lets what is queued for a client that has ended its side reach it, and reports whether it has.
func (s *session) drain() bool {
	s.unlist()
	s.conn.LetGo()
	return s.conn.Drain(s.done.Done())
}

// end is the one place where a session is torn down. It may be called from
// anywhere; the first reason counts. When it returns, all of that is done.
func (s *session) end(reason Reason) {
	s.ending.Do(func() {
		s.done.Set()
		s.unlist()
		switch reason {
		case ReasonStalled, ReasonSlow:
			s.conn.Reset()
		default:
			s.conn.Close()
		}
		s.book(reason)
	})
}

// book counts and logs that a connection has ended.
func (s *session) book(reason Reason) {
	s.hub.counters.disconnected[reason].Add(1)
	if !s.is(flagListed) { // it was never connected
		switch reason {
		case ReasonHandshake, ReasonRefused: // it is complained about
		case ReasonLeft, ReasonLost, ReasonShutdown: // nobody was refused
		default:
			s.hub.handshakes.complain(s.hub.config.Logger, "no handshake", "reason", reason.String(), "address", s.conn.RemoteAddr().String())
		}
		return
	}
	s.hub.config.Logger.Info("client disconnected", "client", s.id.Load(), "address", s.conn.RemoteAddr().String(), "reason", reason.String(),
		"connected_for", time.Since(s.since).Round(time.Millisecond))
}

// The following are what the connection tells its owner: see socket.Owner.

func (s *session) Account() *body.Account { return s.account }

func (s *session) Done() <-chan struct{} { return s.done.Done() }

func (s *session) Sent(t socket.Tally) {
	c := &s.hub.counters
	c.messagesOut.Add(uint64(t.Frames))
	s.messagesOut.Add(uint64(t.Frames))
	c.delivered.Add(uint64(t.Deliveries))
	c.bytesOut.Add(uint64(t.Bytes))
}

func (s *session) Lost(t socket.Tally) {
	s.hub.counters.gone.Add(uint64(t.Deliveries))
}

// Failed is called when writing to the client failed, or when it stalled. What the
// client sent before it went away is here already, and is still handled.
func (s *session) Failed(err error) {
	if errors.Is(err, socket.ErrStalled) {
		s.end(ReasonStalled)
		return
	}
	// The id is read before the link: a session that goes on with a peer gets that first, and then the peer's id, under which
	// it has to stay listed, for it may be resumed once more.
	id := s.id.Load()
	if s.link.Load() != nil {
		s.halt()
	} else {
		s.unlistAs(id)
	}
	s.conn.Finish()
}
