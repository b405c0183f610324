package hub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/admission"
	"github.com/sechlol/go-message-hub/wire"
)

// AuthRequest describes a client that connects.
type AuthRequest struct {
	Address net.Addr             // of the client
	Version int                  // of the protocol, 1 or 2
	Token   string               // from its HELLO, or the cookie of a WebSocket; empty in version 1
	TLS     *tls.ConnectionState // nil: no TLS
	Origin  string               // of the web page that has opened a WebSocket; empty: none

	// Renewal says that the client is connected and presents a newer token, which is to replace
	// the one of its connection.
	Renewal bool
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
	// version 2 can authenticate again on its connection, with the same Subject and ID, or resume
	// its session by doing so within Config.ResumeWindow after Expires. Zero: never.
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

// authenticator decides which clients the hub accepts. All methods can be called concurrently.
type authenticator struct {
	// Static after New.
	callback  func(AuthRequest) (*Permissions, error) // Config.Authenticate; nil: every client is accepted
	disableV1 bool
}

// required reports whether the hub authenticates a client, or its protocol version, before the
// client is registered.
func (a *authenticator) required() bool { return a.callback != nil || a.disableV1 }

// grantsIDs reports whether clients can be granted ids.
func (a *authenticator) grantsIDs() bool { return a.callback != nil }

// renews reports whether connected clients can renew their tokens.
func (a *authenticator) renews() bool { return a.callback != nil }

// maxLength returns the largest length field of a frame of an accepted client, given the body
// limit of the hub. A token can be longer than a small body.
func (a *authenticator) maxLength(maxBody int) int {
	length := wire.MaxRequestLength(maxBody)
	if a.renews() {
		length = max(length, 1+wire.MaxHelloLen)
	}
	return length
}

// check returns the permissions of a client, or why the client is rejected.
func (a *authenticator) check(request AuthRequest) (*Permissions, error) {
	if request.Version == 1 && a.disableV1 {
		return nil, errors.New("protocol version 1 is disabled")
	}
	if a.callback == nil {
		return new(Permissions), nil
	}
	permissions, err := a.callback(request)
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

// rejection returns the error that ends the connection of a client that err rejects.
func rejection(version int, err error) error {
	switch {
	case version == 1: // which has no GOAWAY
		return fmt.Errorf("%w: %w", errRefused, err)
	case errors.Is(err, ErrExpired):
		return &goAway{code: wire.GoAwayExpired, reason: CloseRefused, reconnect: true, err: err}
	}
	return &goAway{code: wire.GoAwayRefused, reason: CloseRefused, err: err}
}

// authorization is what authentication has granted to the client of a connection. The zero
// value grants everything. The read loop sets it before the client is registered, and replaces
// it by that of a renewed token, which has the same Subject and ID. All methods can be called
// concurrently.
type authorization struct {
	permissions atomic.Pointer[Permissions] // nil: unrestricted
}

// subject returns the Subject of the client's permissions.
func (a *authorization) subject() string {
	if p := a.permissions.Load(); p != nil {
		return p.Subject
	}
	return ""
}

// grantedID returns the id that the client was granted; 0: none.
func (a *authorization) grantedID() uint64 {
	if p := a.permissions.Load(); p != nil {
		return p.ID
	}
	return 0
}

// canHoldID reports whether the client can have the id, given whether the hub grants ids: the
// one that it was granted, or any that the hub assigns if it was granted none.
func (a *authorization) canHoldID(id uint64, hubGrantsIDs bool) bool {
	switch granted := a.grantedID(); {
	case !hubGrantsIDs:
		return true
	case granted != 0:
		return granted == id
	}
	return id > MaxGrantedID
}

// timeToExpiry returns how long the permissions still last by the wall clock, and false if they
// do not expire.
func (p *Permissions) timeToExpiry(now time.Time) (time.Duration, bool) {
	if p == nil || p.Expires.IsZero() {
		return 0, false
	}
	return p.Expires.Sub(now.Round(0)), true // without the monotonic clock reading
}

// expiresMillis returns the time until the permissions expire, in milliseconds and at least 1;
// 0: they do not expire.
func (a *authorization) expiresMillis(now time.Time) int64 {
	remaining, expires := a.permissions.Load().timeToExpiry(now)
	if !expires {
		return 0
	}
	return max(1, remaining.Milliseconds())
}

// canList reports whether the client can list other clients.
func (a *authorization) canList() bool { p := a.permissions.Load(); return p == nil || !p.NoList }

// canWatch reports whether the client can watch presence.
func (a *authorization) canWatch() bool { p := a.permissions.Load(); return p == nil || !p.NoWatch }

// sendRule returns Permissions.CanSend; nil: the client can send to every id.
func (a *authorization) sendRule() func(id uint64) bool {
	if p := a.permissions.Load(); p != nil {
		return p.CanSend
	}
	return nil
}

// canSend reports whether the client can send to id.
func (a *authorization) canSend(id uint64) bool {
	rule := a.sendRule()
	return rule == nil || rule(id)
}

// lowerMaxBody returns the largest body that the client can send, in bytes, given the limit of
// the hub.
func (a *authorization) lowerMaxBody(limit int) int {
	if p := a.permissions.Load(); p != nil && p.MaxBody > 0 {
		return min(limit, p.MaxBody)
	}
	return limit
}

// lowerRates returns the rates of the client, given those of the hub.
func (a *authorization) lowerRates(rates admission.Rates) admission.Rates {
	if p := a.permissions.Load(); p != nil {
		return rates.Lower(admission.Rates{Messages: p.MessageRate, Bytes: p.ByteRate})
	}
	return rates
}
