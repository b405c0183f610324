package hub

import (
	"errors"
	"strings"
	"sync"
	"unique"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// errNoHello ends a WebSocket whose first frame is no HELLO. Over TCP such a client speaks
// version 1.
var errNoHello = &goAway{
	code: wire.GoAwayVersion, reason: CloseVersion,
	err: errors.New("the first frame of a WebSocket must be HELLO, because it has no version 1"),
}

// upgradeTable holds what the upgrade requests of WebSockets say about their clients, for
// authentication. It is no part of conn, where it would take memory from every client. The zero
// value is empty. All methods can be called concurrently.
type upgradeTable struct {
	mu sync.Mutex
	of map[*conn]upgrade // guarded by mu
}

// upgrade is what the upgrade request of a WebSocket says about its client.
type upgrade struct {
	origin unique.Handle[string] // few pages have thousands of clients
	token  string                // until it is used
}

// add records what the upgrade request of c says about its client, if that client must
// authenticate.
func (t *upgradeTable) add(c *conn, origin, token string) {
	if c.hub.auth.callback == nil || origin == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = make(map[*conn]upgrade)
	}
	t.of[c] = upgrade{unique.Make(origin), strings.Clone(token)}
}

// find returns what is known about the client of c. The token is not used by that.
func (t *upgradeTable) find(c *conn) (origin, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u, ok := t.of[c]; ok {
		return u.origin.Value(), u.token
	}
	return "", ""
}

// complete adds what is known about the client of c to a request for authentication. A token is
// used once.
func (t *upgradeTable) complete(c *conn, request *AuthRequest) {
	if !c.is(flagWebSocket | flagTunnel) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	u, ok := t.of[c]
	if !ok {
		return
	}
	request.Origin = u.origin.Value()
	if request.Token == "" {
		request.Token = u.token
	}
	u.token = ""
	t.of[c] = u
}

// remove forgets c, which has ended.
func (t *upgradeTable) remove(c *conn) {
	if !c.is(flagWebSocket | flagTunnel) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, c)
}

// webCloseCause returns the error with which a WebSocket ends whose reading has ended with err: a
// client that has violated a protocol is told so, and that it is no use to reconnect.
func webCloseCause(err error) error {
	if errors.As(err, new(*goAway)) {
		return err
	}
	switch reason := closeReasonOf(err, false, false); reason {
	case CloseTooLong, CloseMalformed, CloseWebSocket, CloseText:
		return &goAway{code: wire.GoAwayProtocol, reason: reason, err: err}
	}
	return err
}

// closeStatusOf returns the status with which a WebSocket is closed for that reason, when its
// reading has ended with err. A WebSocketError has a status of its own, which takes precedence.
func closeStatusOf(reason CloseReason, err error) socket.CloseStatus {
	var away *goAway
	if errors.As(err, &away) && away.code == wire.GoAwayBusy {
		return socket.StatusTryAgainLater
	}
	switch reason {
	case CloseLeft, CloseLost, CloseHalfFrame, CloseTakenOver:
		return socket.StatusNormal
	case CloseShutdown:
		return socket.StatusGoingAway
	case CloseMalformed, CloseVersion, CloseWebSocket:
		return socket.StatusProtocolError
	case CloseText:
		return socket.StatusUnsupportedData
	case CloseTooLong:
		return socket.StatusTooLong
	}
	return socket.StatusPolicyViolation // the client is not permitted to stay: its credentials, a timeout, the operator
}
