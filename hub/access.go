package hub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// Applicant is a client that wants to come in.
type Applicant struct {
	Address net.Addr             // of its side
	Version int                  // of the protocol, 1 or 2
	Token   string               // that it shows; in version 1 it cannot
	TLS     *tls.ConnectionState // with the certificates that it has shown, verified if that was asked for; nil: no TLS
}

// Grant says who a client is and what it may do. It must not be changed afterwards.
type Grant struct {
	// Subject is who the client is, for the operator, and for those who come back: nobody
	// goes on with a connection of somebody else.
	Subject string

	// ID is the id of the client, from 1 to GrantedMost. Of several connections with one
	// id the last one counts. 0: the hub gives it one.
	ID uint64

	// Until is when the client has to go, or to come in again, by the wall clock: that is seen
	// within 30 s when the clock is set or the machine has slept. A client of version 2 that comes in
	// again within Config.ResumeWindow, as the same Subject and with the same ID, goes on with its
	// session. Zero: never.
	Until time.Time

	// May says to whom the client may send. It is called for each receiver of each message,
	// so it must be fast, and perhaps concurrently. nil: to everybody.
	May func(id uint64) bool

	NoList  bool // for it nobody else is there
	NoWatch bool // and it may not ask who comes and goes
	MaxBody int  // in bytes, if that is less than Config.MaxBody; 0: no less

	MessageRate float64 // what all connections of Subject may send in a second, if that is less than Config.MessageRate; 0: no less
	ByteRate    float64 // likewise, in bytes
}

// GrantedMost is the largest id that a Grant may name. A hub with Config.Admit gives those above
// to clients whose grant names none, so that nobody gets an id that is promised to another.
const GrantedMost = wire.MaxGrantedID

// ErrExpired is for Config.Admit: wrapped in its error it says that what the client has shown was
// good once, and something newer would be. Then the client is asked to come again with that, and not
// to stay away.
var ErrExpired = errors.New("what you have shown is good no longer")

// errRefused says that a client may not come in.
var errRefused = errors.New("refused")

// guarded reports whether a client must say who it is before it is one.
func (h *Hub) guarded() bool { return h.config.Admit != nil || h.config.NoClassic }

// awaitAdmission ends a connection that does not say who it is in time. It is called before the
// first frame is read.
func (s *session) awaitAdmission() {
	s.conn.SetMaxLength(1 + wire.HelloMost)
	s.due = time.AfterFunc(s.hub.config.HandshakeTimeout, func() {
		h := s.hub
		h.handshakes.complain(h.config.Logger, "no handshake", "reason", ReasonHandshake.String(), "address", s.conn.RemoteAddr().String(), "error", "nothing was said in time")
		s.end(ReasonHandshake)
	})
}

// admit asks whether the client may come in. It is called by the goroutine that reads, for the
// first frame.
func (s *session) admit(version int, token string) error {
	h := s.hub
	if !h.guarded() {
		return s.inTime()
	}
	grant, err := h.judge(s, version, token)
	if err != nil {
		h.refusals.complain(h.config.Logger, "client refused", "reason", ReasonRefused.String(), "address", s.conn.RemoteAddr().String(), "error", err)
		if version == 1 { // it would not understand
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		if errors.Is(err, ErrExpired) {
			return &goAway{code: wire.GoAwayExpired, reason: ReasonRefused, reconnect: true, err: err}
		}
		return &goAway{code: wire.GoAwayRefused, reason: ReasonRefused, err: err}
	}
	if err := s.inTime(); err != nil {
		return err
	}
	s.grant, s.pace = grant, h.newPace(s.conn.RemoteAddr(), grant)
	s.conn.SetMaxLength(wire.MaxRequest(h.config.MaxBody))
	if !grant.Until.IsZero() {
		s.awaitExpiry()
	}
	return nil
}

// assignID gives the client the id that it is granted, or one that no start of the hub has given
// before.
func (s *session) assignID() {
	if s.grant != nil && s.grant.ID != 0 {
		s.id.Store(s.grant.ID)
		return
	}
	s.id.Store(s.hub.ids.Next())
}

// inTime ends the time for the first frame. It returns an error when that is over.
func (s *session) inTime() error {
	if s.due != nil && !s.due.Stop() {
		return errEnded
	}
	s.due = nil
	return nil
}

// judge returns what a client may do, or why it may not come in.
func (h *Hub) judge(s *session, version int, token string) (*Grant, error) {
	if version == 1 && h.config.NoClassic {
		return nil, errors.New("version 1 of the protocol is not spoken here")
	}
	if h.config.Admit == nil {
		return new(Grant), nil
	}
	a := Applicant{Address: s.conn.RemoteAddr(), Version: version, Token: token}
	if secure, ok := s.conn.Secure(); ok {
		a.TLS = &secure
	}
	grant, err := h.config.Admit(a)
	switch {
	case err != nil:
		return nil, err
	case grant == nil: // an embedder's mistake must let nobody in, and end no hub
		return nil, errors.New("nothing is granted")
	case grant.ID > GrantedMost:
		return nil, fmt.Errorf("the id %d is not one that can be granted", grant.ID)
	}
	return grant, nil
}

// maxClockCheck is how long the wall clock is not looked at while a grant has an end. Timers follow
// another clock, which stands still while the machine sleeps, and does not follow when the wall
// clock is set.
const maxClockCheck = 30 * time.Second

// untilExpiry returns how long the grant still lasts by the wall clock.
func (s *session) untilExpiry() time.Duration {
	return s.grant.Until.Sub(s.hub.config.now().Round(0)) // without the reading of the other clock
}

// awaitExpiry sees to it that the client goes when its grant ends. It is called by the goroutine
// that reads, once.
func (s *session) awaitExpiry() {
	s.due = time.AfterFunc(maxClockCheck, s.checkExpiry)
	s.due.Reset(min(s.untilExpiry(), maxClockCheck)) // only now may checkExpiry look at s.due
}

// checkExpiry is called by the timer of awaitExpiry.
func (s *session) checkExpiry() {
	left := s.untilExpiry()
	switch {
	case s.done.IsSet():
	case left > 0:
		s.due.Reset(min(left, maxClockCheck))
	default:
		s.expire()
	}
}

// expire is called when what the client may do has an end. In version 2 its session is detached, as if
// the connection were lost: with something newer the client goes on with it.
func (s *session) expire() {
	l := s.link.Load()
	if l == nil {
		s.end(ReasonExpired)
		return
	}
	away := &goAway{
		code: wire.GoAwayExpired, reason: ReasonExpired, reconnect: true, resumable: true,
		err: fmt.Errorf("%w: come in again with something newer", ErrExpired),
	}
	if !l.dismissed.CompareAndSwap(nil, away) {
		return
	}
	l.halted.Set()
	s.conn.Interrupt()
	time.AfterFunc(maxDetachTime, func() {
		if !l.detached.IsSet() {
			s.end(ReasonExpired)
		}
	})
}

// maxDetachTime is how long the session of a client whose grant has ended may take until nothing is
// written to the client any more. It bounds what one that waits for memory still gets.
const maxDetachTime = 3 * lastWords

// mayHold reports whether the client may have the id: the one that is granted to it, or any of the
// hub's if none is.
func (s *session) mayHold(id uint64) bool {
	switch {
	case s.hub.config.Admit == nil:
		return true
	case s.grant.ID != 0:
		return s.grant.ID == id
	}
	return id > GrantedMost
}

// mayList reports whether the client may ask who is there.
func (s *session) mayList() bool { return s.grant == nil || !s.grant.NoList }

// mayWatch reports whether it may ask who comes and goes.
func (s *session) mayWatch() bool { return s.grant == nil || !s.grant.NoWatch }

// maxBody returns the largest body that the client may send, in bytes.
func (s *session) maxBody() int {
	most := s.hub.config.MaxBody
	if s.grant != nil && s.grant.MaxBody > 0 {
		most = min(most, s.grant.MaxBody)
	}
	return most
}

// limitDeliver bounds the body of a message that the client is sent, in bytes, by what its HELLO
// says; 0: it does not say, and takes what the hub allows.
func (s *session) limitDeliver(maxBody uint64) {
	if maxBody > 0 && maxBody < uint64(s.hub.config.MaxBody) {
		s.conn.SetMaxFrame(wire.DeliverLen(int(maxBody)))
	}
}

// maxDeliver returns the largest body that the client is sent, in bytes.
func (s *session) maxDeliver() int {
	if frame := s.conn.MaxFrame(); frame > 0 {
		return frame - wire.DeliverLen(0)
	}
	return s.hub.config.MaxBody
}

// forbid takes those to whom the client may not send out of those who were found.
func (s *session) forbid(ids []uint64, found []*session) (forbidden places) {
	if s.grant == nil || s.grant.May == nil {
		return forbidden
	}
	n, last := 0, uint64(0)
	for i, id := range ids {
		if !s.grant.May(id) {
			found[i] = nil
			forbidden.set(i)
			n, last = n+1, id
		}
	}
	if n > 0 {
		s.hub.forbidden.complain(s.hub.config.Logger, "message forbidden", "reason", "forbidden", "client", s.id.Load(), "receiver", last)
	}
	return forbidden
}

// subject returns who the client is.
func (s *session) subject() string {
	if s.grant == nil {
		return ""
	}
	return s.grant.Subject
}
