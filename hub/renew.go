package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// minRenewalInterval is the minimum time between two renewals of one session. It bounds how
// often a client that renews in a loop has Config.Authenticate called.
const minRenewalInterval = time.Second

// promptAuthentication is how long nothing but the result ends the wait for an authentication. The
// verification of a signature takes less than 1 ms.
const promptAuthentication = 20 * time.Millisecond

// The errors with which a renewal fails, besides those of the authenticator.
var (
	errRenewLater   = errors.New("not possible now, try again later")
	errNoRenewals   = errors.New("this hub does not authenticate clients")
	errOtherSubject = errors.New("the new token is for another client")
)

// renewalErrorCode returns the code of the ERROR for a renewal that has failed with err.
func renewalErrorCode(err error) wire.ErrorCode {
	switch {
	case errors.Is(err, errRenewLater):
		return wire.ErrorRenewLater
	case errors.Is(err, ErrExpired):
		return wire.ErrorTokenExpired
	}
	return wire.ErrorTokenRefused
}

// applyRenewed replaces the permissions of the client, and answers RENEW.
func (c *conn) applyRenewed(permissions *Permissions) {
	rates := c.lowerRates(c.hub.rates)
	c.permissions.Store(permissions)
	c.deadline.setExpiry(c)
	if c.lowerRates(c.hub.rates) != rates {
		c.rate.setRates(c)
	}
	c.hub.counters.renewed.Add(1)
	c.hub.config.Logger.Debug("token renewed", "client", c.id.Load())
	c.session().sendRenewed(c, &wire.Renewed{Expires: c.expiresMillis(c.hub.config.now()), MaxBody: c.maxBody()})
}

// renew returns the permissions of a newer token of the client, or why it cannot be used.
func (c *conn) renew(token string) (*Permissions, error) {
	h := c.hub
	switch {
	case !h.auth.renews():
		return nil, errNoRenewals
	case c.is(flagRenewing) || !c.session().startRenewal(time.Since(h.started)):
		return nil, errRenewLater
	}
	permissions, err := c.authenticateAgain(token)
	if err != nil {
		return nil, err
	}
	if remaining, expires := permissions.timeToExpiry(h.config.now()); expires && remaining <= 0 {
		return nil, ErrExpired
	}
	if permissions.Subject != c.subject() || permissions.ID != c.grantedID() {
		return nil, errOtherSubject
	}
	return permissions, nil
}

// authenticateAgain authenticates the connected client with a newer token. The client is not
// read meanwhile, for Config.renewalTimeout at most.
func (c *conn) authenticateAgain(token string) (*Permissions, error) {
	var permissions *Permissions // valid, with err, once done is closed
	var err error
	done := make(chan struct{})
	c.flags.Or(flagRenewing)
	go func() { // ends when Config.Authenticate returns; Shutdown waits for releaseSlots
		defer func() {
			if c.flags.And(^flagRenewing)&flagEnded != 0 {
				c.releaseSlots()
			}
			close(done)
		}()
		request := c.authRequest(wire.Version2, token)
		request.Renewal = true
		permissions, err = c.hub.auth.check(request)
	}()
	timer := time.NewTimer(promptAuthentication)
	defer timer.Stop()
	select {
	case <-done:
		return permissions, err
	case <-timer.C:
		// only now, because the connection keeps the channels of the latches below
		timer.Reset(c.hub.config.renewalTimeout() - promptAuthentication)
	}
	select {
	case <-done:
		return permissions, err
	case <-timer.C:
		return nil, fmt.Errorf("authentication takes too long: %w", errRenewLater)
	case <-c.done.Done():
		return nil, errConnClosed
	case <-c.v2.Load().interrupted.Done():
		return nil, socket.ErrInterrupted
	case <-c.hub.closing:
		return nil, socket.ErrInterrupted
	}
}

// renewalTimeout returns how long a client that renews its token is not read at most. Its ACKs
// and PONGs are then read before the stall timeout or the keep-alive ends its connection.
func (c *Config) renewalTimeout() time.Duration {
	return min(c.HandshakeTimeout, c.StallTimeout/2, c.KeepAlive)
}
