package hub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// AuthRequest is a client that wants to come in.
type AuthRequest struct {
	Address net.Addr             // of its side
	Version int                  // of the protocol, 1 or 2
	Token   string               // that it shows; in version 1 it cannot
	TLS     *tls.ConnectionState // with the certificates that it has shown, verified if that was asked for; nil: no TLS
}

// Permissions says who a client is and what it may do. It must not be changed afterwards.
type Permissions struct {
	// Subject is who the client is, for the operator, and for those who come back: nobody
	// goes on with a connection of somebody else.
	Subject string

	// ID is the id of the client, from 1 to MaxGrantedID. Of several connections with one
	// id the last one counts. 0: the hub gives it one.
	ID uint64

	// Expires is when the client has to go, or to come in again, by the wall clock: that is seen
	// within 30 s when the clock is set or the machine has slept. A client of version 2 that comes in
	// again within Config.ResumeWindow, as the same Subject and with the same ID, goes on with its
	// session. Zero: never.
	Expires time.Time

	// CanSend says to whom the client may send. It is called for each receiver of each message,
	// so it must be fast, and perhaps concurrently. nil: to everybody.
	CanSend func(id uint64) bool

	NoList  bool // for it nobody else is there
	NoWatch bool // and it may not ask who comes and goes
	MaxBody int  // in bytes, if that is less than Config.MaxBody; 0: no less

	MessageRate float64 // what all connections of Subject may send in a second, if that is less than Config.MessageRate; 0: no less
	ByteRate    float64 // likewise, in bytes
}

// MaxGrantedID is the largest id that a Grant may name. A hub with Config.Authenticate gives those above
// to clients whose grant names none, so that nobody gets an id that is promised to another.
const MaxGrantedID = wire.MaxGrantedID

// ErrExpired is for Config.Authenticate: wrapped in its error it says that what the client has shown was
// good once, and something newer would be. Then the client is asked to come again with that, and not
// to stay away.
var ErrExpired = errors.New("what you have shown is good no longer")

// errRefused says that a client may not come in.
var errRefused = errors.New("refused")

// authRequired reports whether a client must say who it is before it is one.
func (h *Hub) authRequired() bool { return h.config.Authenticate != nil || h.config.DisableV1 }

// startAuthTimer ends a connection that does not say who it is in time. It is called before the
// first frame is read.
func (c *conn) startAuthTimer() {
	c.sock.SetMaxLength(1 + wire.MaxHelloLen)
	c.deadlineTimer = time.AfterFunc(c.hub.config.HandshakeTimeout, func() {
		h := c.hub
		h.handshakeLog.logWarn(h.config.Logger, "no handshake", "reason", CloseHandshake.String(), "address", c.sock.RemoteAddr().String(), "error", "nothing was said in time")
		c.close(CloseHandshake)
	})
}

// authenticate asks whether the client may come in. It is called by the goroutine that reads, for the
// first frame.
func (c *conn) authenticate(version int, token string) error {
	h := c.hub
	if !h.authRequired() {
		return c.stopAuthTimer()
	}
	permissions, err := h.authenticate(c, version, token)
	if err != nil {
		h.authLog.logWarn(h.config.Logger, "client refused", "reason", CloseRefused.String(), "address", c.sock.RemoteAddr().String(), "error", err)
		if version == 1 { // it would not understand
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		if errors.Is(err, ErrExpired) {
			return &goAway{code: wire.GoAwayExpired, reason: CloseRefused, reconnect: true, err: err}
		}
		return &goAway{code: wire.GoAwayRefused, reason: CloseRefused, err: err}
	}
	if err := c.stopAuthTimer(); err != nil {
		return err
	}
	c.permissions, c.limiter = permissions, h.newRateLimiter(c.sock.RemoteAddr(), permissions)
	c.sock.SetMaxLength(wire.MaxRequestLength(h.config.MaxBody))
	if !permissions.Expires.IsZero() {
		c.startExpiryTimer()
	}
	return nil
}

// assignID gives the client the id that it is granted, or one that no start of the hub has given
// before.
func (c *conn) assignID() {
	if c.permissions != nil && c.permissions.ID != 0 {
		c.id.Store(c.permissions.ID)
		return
	}
	c.id.Store(c.hub.ids.Next())
}

// stopAuthTimer ends the time for the first frame. It returns an error when that is over.
func (c *conn) stopAuthTimer() error {
	if c.deadlineTimer != nil && !c.deadlineTimer.Stop() {
		return errConnClosed
	}
	c.deadlineTimer = nil
	return nil
}

// authenticate returns what a client may do, or why it may not come in.
func (h *Hub) authenticate(c *conn, version int, token string) (*Permissions, error) {
	if version == 1 && h.config.DisableV1 {
		return nil, errors.New("version 1 of the protocol is not spoken here")
	}
	if h.config.Authenticate == nil {
		return new(Permissions), nil
	}
	request := AuthRequest{Address: c.sock.RemoteAddr(), Version: version, Token: token}
	if tlsState, ok := c.sock.TLSState(); ok {
		request.TLS = &tlsState
	}
	permissions, err := h.config.Authenticate(request)
	switch {
	case err != nil:
		return nil, err
	case permissions == nil: // an embedder's mistake must let nobody in, and end no hub
		return nil, errors.New("nothing is granted")
	case permissions.ID > MaxGrantedID:
		return nil, fmt.Errorf("the id %d is not one that can be granted", permissions.ID)
	}
	return permissions, nil
}

// clockCheckInterval is how long the wall clock is not looked at while a grant has an end. Timers follow
// another clock, which stands still while the machine sleeps, and does not follow when the wall
// clock is set.
const clockCheckInterval = 30 * time.Second

// timeToExpiry returns how long the grant still lasts by the wall clock.
func (c *conn) timeToExpiry() time.Duration {
	return c.permissions.Expires.Sub(c.hub.config.now().Round(0)) // without the reading of the other clock
}

// startExpiryTimer sees to it that the client goes when its grant ends. It is called by the goroutine
// that reads, once.
func (c *conn) startExpiryTimer() {
	c.deadlineTimer = time.AfterFunc(clockCheckInterval, c.checkExpiry)
	c.deadlineTimer.Reset(min(c.timeToExpiry(), clockCheckInterval)) // only now may checkExpiry look at s.due
}

// checkExpiry is called by the timer of startExpiryTimer.
func (c *conn) checkExpiry() {
	remaining := c.timeToExpiry()
	switch {
	case c.done.IsSet():
	case remaining > 0:
		c.deadlineTimer.Reset(min(remaining, clockCheckInterval))
	default:
		c.expire()
	}
}

// expire is called when what the client may do has an end. In version 2 its session is detached, as if
// the connection were lost: with something newer the client goes on with it.
func (c *conn) expire() {
	v2 := c.v2.Load()
	if v2 == nil {
		c.close(CloseExpired)
		return
	}
	away := &goAway{
		code: wire.GoAwayExpired, reason: CloseExpired, reconnect: true, resumable: true,
		err: fmt.Errorf("%w: come in again with something newer", ErrExpired),
	}
	if !v2.goAway.CompareAndSwap(nil, away) {
		return
	}
	v2.interrupted.Set()
	c.sock.Interrupt()
	time.AfterFunc(detachTimeout, func() {
		if !v2.detached.IsSet() {
			c.close(CloseExpired)
		}
	})
}

// detachTimeout is how long the session of a client whose grant has ended may take until nothing is
// written to the client any more. It bounds what one that waits for memory still gets.
const detachTimeout = 3 * goAwayTimeout

// canHoldID reports whether the client may have the id: the one that is granted to it, or any of the
// hub's if none is.
func (c *conn) canHoldID(id uint64) bool {
	switch {
	case c.hub.config.Authenticate == nil:
		return true
	case c.permissions.ID != 0:
		return c.permissions.ID == id
	}
	return id > MaxGrantedID
}

// canList reports whether the client may ask who is there.
func (c *conn) canList() bool { return c.permissions == nil || !c.permissions.NoList }

// canWatch reports whether it may ask who comes and goes.
func (c *conn) canWatch() bool { return c.permissions == nil || !c.permissions.NoWatch }

// maxBody returns the largest body that the client may send, in bytes.
func (c *conn) maxBody() int {
	limit := c.hub.config.MaxBody
	if c.permissions != nil && c.permissions.MaxBody > 0 {
		limit = min(limit, c.permissions.MaxBody)
	}
	return limit
}

// setMaxDeliver bounds the body of a message that the client is sent, in bytes, by what its HELLO
// says; 0: it does not say, and takes what the hub allows.
func (c *conn) setMaxDeliver(maxBody uint64) {
	if maxBody > 0 && maxBody < uint64(c.hub.config.MaxBody) {
		c.sock.SetMaxFrame(wire.DeliverLen(int(maxBody)))
	}
}

// maxDeliver returns the largest body that the client is sent, in bytes.
func (c *conn) maxDeliver() int {
	if frame := c.sock.MaxFrame(); frame > 0 {
		return frame - wire.DeliverLen(0)
	}
	return c.hub.config.MaxBody
}

// removeForbidden takes those to whom the client may not send out of those who were found.
func (c *conn) removeForbidden(ids []uint64, dests []*conn) (forbidden indexSet) {
	if c.permissions == nil || c.permissions.CanSend == nil {
		return forbidden
	}
	n, lastID := 0, uint64(0)
	for i, id := range ids {
		if !c.permissions.CanSend(id) {
			dests[i] = nil
			forbidden.set(i)
			n, lastID = n+1, id
		}
	}
	if n > 0 {
		c.hub.forbiddenLog.logWarn(c.hub.config.Logger, "message forbidden", "reason", "forbidden", "client", c.id.Load(), "receiver", lastID)
	}
	return forbidden
}

// subject returns who the client is.
func (c *conn) subject() string {
	if c.permissions == nil {
		return ""
	}
	return c.permissions.Subject
}
