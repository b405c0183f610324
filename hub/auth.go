package hub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/internal/admission"
	"github.com/sechlol/go-message-hub/wire"
)

// AuthRequest describes a client that connects.
type AuthRequest struct {
	Address net.Addr             // of the client
	Version int                  // of the protocol, 1 or 2
	Token   string               // from its HELLO; empty in version 1
	TLS     *tls.ConnectionState // nil: no TLS
}

// Permissions says who a client is and what it can do. It must not be changed once
// Config.Authenticate has returned it.
type Permissions struct {
	// Subject identifies the client, for the operator and for resumption: only a client with the
	// same Subject can resume the session.
	Subject string

	// ID is the id of the client, from 1 to MaxGrantedID. If several connections have the same
	// ID, the last one replaces the others. 0: the hub assigns an id.
	ID uint64

	// Expires is when the client must disconnect or authenticate again, by the wall clock. The
	// hub notices it within 30 s when the clock is set or the machine has slept. A client of
	// version 2 that authenticates again within Config.ResumeWindow, with the same Subject and
	// ID, resumes its session. Zero: never.
	Expires time.Time

	// CanSend reports whether the client can send to id. It is called for each receiver of each
	// message, perhaps concurrently, and must be fast. nil: the client can send to every id.
	CanSend func(id uint64) bool

	NoList  bool // the client sees no other clients in a list
	NoWatch bool // the client cannot watch presence
	MaxBody int  // in bytes, if less than Config.MaxBody; 0: Config.MaxBody

	// MessageRate and ByteRate are what all connections of Subject can send in a second, if that
	// is less than Config.MessageRate and Config.ByteRate. 0: no less.
	MessageRate float64
	ByteRate    float64
}

// MaxGrantedID is the largest Permissions.ID. A hub with Config.Authenticate assigns larger
// ids to clients whose Permissions name none, which keeps it from assigning an id that is
// granted to another client.
const MaxGrantedID = wire.MaxGrantedID

// ErrExpired is for Config.Authenticate. An error that wraps it says that the credentials of
// the client were valid once, and that newer ones can be. The client is then told to
// reconnect with new credentials, and not to stay away.
var ErrExpired = errors.New("credentials expired")

// authRequired reports whether the hub authenticates a client, or its protocol version,
// before the client is registered.
func (h *Hub) authRequired() bool { return h.config.Authenticate != nil || h.config.DisableV1 }

// startAuthTimer closes the connection if the first frame does not arrive in time. It is
// called before the first frame is read.
func (c *conn) startAuthTimer() {
	c.sock.SetMaxLength(1 + wire.MaxHelloLen)
	c.deadlineTimer = time.AfterFunc(c.hub.config.HandshakeTimeout, func() {
		h := c.hub
		h.limitedLog.LogWarn("handshake failed", "reason", CloseHandshake.String(), "address", c.sock.RemoteAddr().String(), "error", "no first frame in time")
		c.close(CloseHandshake)
	})
}

// authenticate decides whether the client is accepted. It is called by the read loop, for the
// first frame.
func (c *conn) authenticate(version int, token string) error {
	h := c.hub
	if !h.authRequired() {
		return c.stopAuthTimer()
	}
	permissions, err := h.authenticate(c, version, token)
	if err != nil {
		h.limitedLog.LogWarn("client rejected", "reason", CloseRefused.String(), "address", c.sock.RemoteAddr().String(), "error", err)
		if version == 1 { // which has no GOAWAY
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
	c.permissions = permissions
	rates := h.rates.Lower(admission.Rates{Messages: permissions.MessageRate, Bytes: permissions.ByteRate})
	c.limiter = h.buckets.NewRateLimiter(permissions.Subject, c.sock.RemoteAddr(), rates, time.Now())
	c.sock.SetMaxLength(wire.MaxRequestLength(h.config.MaxBody))
	if !permissions.Expires.IsZero() {
		c.startExpiryTimer()
	}
	return nil
}

// assignID gives the client the id that it was granted, or one that no start of the hub has
// assigned before.
func (c *conn) assignID() {
	if c.permissions != nil && c.permissions.ID != 0 {
		c.id.Store(c.permissions.ID)
		return
	}
	c.id.Store(c.hub.ids.Next())
}

// stopAuthTimer ends the time for the first frame. It returns an error if that time is over.
func (c *conn) stopAuthTimer() error {
	if c.deadlineTimer != nil && !c.deadlineTimer.Stop() {
		return errConnClosed
	}
	c.deadlineTimer = nil
	return nil
}

// authenticate returns the permissions of a client, or why the client is rejected.
func (h *Hub) authenticate(c *conn, version int, token string) (*Permissions, error) {
	if version == 1 && h.config.DisableV1 {
		return nil, errors.New("protocol version 1 is disabled")
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
	case permissions == nil: // a mistake of the embedder, which must let no client in, and end no hub
		return nil, errors.New("no permissions and no error from Authenticate")
	case permissions.ID > MaxGrantedID:
		return nil, fmt.Errorf("granted id %d is out of range", permissions.ID)
	}
	return permissions, nil
}

// clockCheckInterval is how often the wall clock is looked at while permissions expire.
// Timers follow the monotonic clock, which stands still while the machine sleeps, and which
// does not change when the wall clock is set.
const clockCheckInterval = 30 * time.Second

// timeToExpiry returns how long the permissions still last by the wall clock.
func (c *conn) timeToExpiry() time.Duration {
	// without the monotonic clock reading
	return c.permissions.Expires.Sub(c.hub.config.now().Round(0))
}

// startExpiryTimer ends the connection when its permissions expire. It is called by the read
// loop, once.
func (c *conn) startExpiryTimer() {
	c.deadlineTimer = time.AfterFunc(clockCheckInterval, c.checkExpiry)
	// only now can checkExpiry use c.deadlineTimer
	c.deadlineTimer.Reset(min(c.timeToExpiry(), clockCheckInterval))
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

// expire is called when the permissions have expired. A session of version 2 is detached, as
// if the connection were lost: the client resumes it with new credentials.
func (c *conn) expire() {
	v2 := c.v2.Load()
	if v2 == nil {
		c.close(CloseExpired)
		return
	}
	away := &goAway{
		code: wire.GoAwayExpired, reason: CloseExpired, reconnect: true, resumable: true,
		err: fmt.Errorf("%w: reconnect with new credentials", ErrExpired),
	}
	if !v2.goAway.CompareAndSwap(nil, away) {
		return
	}
	v2.interrupted.Set()
	c.sock.Interrupt()
	time.AfterFunc(detachTimeout, func() {
		if !v2.attachment.load().hasLeft() {
			c.close(CloseExpired)
		}
	})
}

// detachTimeout is how long a session can take to detach after the permissions of its client
// have expired. It bounds what a client whose read loop waits for memory still receives.
const detachTimeout = 3 * goAwayTimeout

// canHoldID reports whether the client can have the id: the one that it was granted, or any
// that the hub assigns if it was granted none.
func (c *conn) canHoldID(id uint64) bool {
	switch {
	case c.hub.config.Authenticate == nil:
		return true
	case c.permissions.ID != 0:
		return c.permissions.ID == id
	}
	return id > MaxGrantedID
}

// canList reports whether the client can list other clients.
func (c *conn) canList() bool { return c.permissions == nil || !c.permissions.NoList }

// canWatch reports whether the client can watch presence.
func (c *conn) canWatch() bool { return c.permissions == nil || !c.permissions.NoWatch }

// maxBody returns the largest body that the client can send, in bytes.
func (c *conn) maxBody() int {
	limit := c.hub.config.MaxBody
	if c.permissions != nil && c.permissions.MaxBody > 0 {
		limit = min(limit, c.permissions.MaxBody)
	}
	return limit
}

// setMaxDeliver bounds the body of a message that the client is sent, in bytes, as its HELLO
// says. 0: HELLO names no maximum, and the limit of the hub applies.
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

// subject returns the Subject of the client's permissions.
func (c *conn) subject() string {
	if c.permissions == nil {
		return ""
	}
	return c.permissions.Subject
}
