package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// A client that has lost its connection waits for a random delay before each round of attempts,
// which with one address is one attempt. The maximum of the delay begins with minBackoff, doubles
// with each round and ends with maxBackoff. The random part spreads the clients of one hub over
// time.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 20 * time.Second

	// minDialTimeout limits an attempt of the first round. The limit doubles with each further round,
	// up to maxDialTimeout. An attempt that a bad network swallows must not use up the resume window,
	// because other clients may wait for this one.
	minDialTimeout = 3 * time.Second
	maxDialTimeout = 10 * time.Second

	// tokenGrace is how long the hub can reject the same token as expired before the client gives
	// up. A token service can renew a token slightly too late.
	tokenGrace = time.Minute
)

// reconnector is the read goroutine of a client: it reads one connection after the other, and
// makes the next one when a connection is lost. That goroutine owns its fields, except done.
type reconnector struct {
	session   *session
	rounds    attemptRounds // of the attempts since the last WELCOME
	attempts  int           // number of them
	rejected  int           // number of the last ones that were rejected; see shouldReconnect
	delay     time.Duration // the longest that a GOAWAY has asked for since the last round began
	expired   expiredToken  // the token that the hub has called expired since the last WELCOME
	nextToken string        // the token for the next HELLO; "" calls Options.GetToken

	done chan struct{} // closed when run has returned
}

func (rc *reconnector) init(s *session) {
	rc.session, rc.done = s, make(chan struct{})
	rc.rounds.size = max(1, len(s.endpoints))
}

// run reads and reconnects until the client has ended.
func (rc *reconnector) run(r *reader) {
	defer close(rc.done)
	s := rc.session
	for r != nil {
		err := rc.disconnectErr(r, r.readLoop())
		if r.welcome != nil {
			rc.attempts, rc.rejected, rc.expired = 0, 0, expiredToken{}
			rc.rounds.restart(r.endpoint)
		} else if s.isV2() {
			err = s.atEndpoint(r.endpoint, err)
		}
		reconnect := rc.shouldReconnect(r, err)
		if !reconnect {
			s.end(err)
		}
		r.close(err)
		if r.renewal != nil {
			rc.nextToken = r.renewal.token
		}
		if !reconnect {
			break
		}
		r = rc.reconnect(r, err)
	}
	if s.version.Load() != 0 { // otherwise Dial has failed, and the application has no Client
		s.emit(Event{Kind: EventClosed, Err: s.life.Err()})
	}
}

// disconnectErr returns why the connection of r has ended. err is the error of readLoop.
func (rc *reconnector) disconnectErr(r *reader, err error) error {
	s := rc.session
	if s.byeSent.Load() && err == ErrHubClosed && r.goAway == nil {
		s.sendQueue.ackAll() // the hub has closed the connection because of BYE, behind all ACKs
	}
	switch {
	case s.life.isClosing():
		return ErrClosed
	case r.keepAlive != nil && r.keepAlive.timedOut.Load():
		return errKeepAliveTimeout
	case r.goAway != nil:
		return &GoAwayError{Code: r.goAway.Code, Reason: r.goAway.Reason, Reconnect: r.goAway.Reconnect}
	case r.isV1 && s.isV2():
		return fmt.Errorf("%w: the hub now speaks version 1", ErrVersion)
	case r.renewal != nil && r.renewal.reconnects.Load():
		return errTokenRenewed
	case r.welcome == nil && r.handshakeTimeout.Load():
		return errWelcomeTimeout
	}
	return err
}

// shouldReconnect reports whether the client reconnects after the connection of r has ended with
// err. A connected client goes by its hub. An attempt speaks only for its address: the client ends
// when all addresses in succession have rejected it.
func (rc *reconnector) shouldReconnect(r *reader, err error) bool {
	s := rc.session
	switch {
	case !s.canReconnect():
		return false
	case errors.Is(err, ErrClosed):
		return !s.byeSent.Load() && s.sendQueue.count() > 0
	case !rc.isRejection(r, err):
		rc.rejected = 0
		return true
	case r.welcome != nil:
		return false
	}
	rc.rejected++
	return rc.rejected < len(s.endpoints)
}

// isRejection reports whether a further attempt at the same address is useless after err, the end
// of the connection of r.
func (rc *reconnector) isRejection(r *reader, err error) bool {
	var away *GoAwayError
	switch {
	case errors.Is(err, ErrProtocol), errors.Is(err, ErrVersion):
		return true
	case !errors.As(err, &away):
		return false
	case away.Reconnect && away.Code == wire.GoAwayExpired:
		return !rc.canRenew(r.token)
	}
	return !away.Reconnect
}

// expiredToken is a token that the hub has rejected as expired.
type expiredToken struct {
	token string
	since time.Time // time of the first rejection since the last WELCOME; zero: none
}

// canRenew reports whether the client may get a newer token or certificate than the expired
// one. The hub does not say which of the two has expired.
func (rc *reconnector) canRenew(token string) bool {
	o := &rc.session.options
	if tls := o.TLS; o.GetToken == nil && (tls == nil || tls.GetClientCertificate == nil) {
		return false
	}
	if rc.expired.since.IsZero() || rc.expired.token != token {
		rc.expired = expiredToken{token, time.Now()}
	}
	// Monotonic clock: stands still while the machine sleeps.
	return time.Since(rc.expired.since) < tokenGrace
}

// reconnect returns the reader of the next connection after that of last, which has ended with
// err, or nil if the client has ended.
func (rc *reconnector) reconnect(last *reader, err error) *reader {
	if last.welcome != nil {
		rc.session.emit(Event{Kind: EventDisconnected, Err: err})
	} else {
		rc.reconnectFailed(err)
	}
	if last.goAway != nil {
		rc.handleGoAway(last)
	}
	for rc.wait(err) {
		var r *reader
		if r, err = rc.redial(); err == nil {
			return r
		}
		rc.rejected = 0
		rc.reconnectFailed(err)
	}
	return nil
}

// handleGoAway applies the GOAWAY with which the connection of last has ended to the next attempts.
func (rc *reconnector) handleGoAway(last *reader) {
	rc.delay = max(rc.delay, time.Duration(last.goAway.After)*time.Millisecond)
	code := last.goAway.Code
	if last.welcome != nil && (code == wire.GoAwayShutdown || code == wire.GoAwayBusy) {
		rc.rounds.restart(last.endpoint + 1)
	}
}

// wait waits before the next attempt, which follows on err. Within a round, wait returns at once.
// It returns false if the client has ended.
func (rc *reconnector) wait(err error) bool {
	delay := time.Duration(0)
	if rc.rounds.isDone() {
		delay, rc.delay = rc.delay, 0
		if !errors.Is(err, errTokenRenewed) {
			delay += rand.N(min(maxBackoff, minBackoff<<min(rc.rounds.begun, 16)))
		}
	}
	select {
	case <-time.After(delay):
		return rc.session.life.ctx.Err() == nil
	case <-rc.session.life.Done():
		return false
	}
}

// reconnectFailed emits EventReconnectFailed, unless the client has ended.
func (rc *reconnector) reconnectFailed(err error) {
	if rc.session.life.ctx.Err() == nil {
		rc.session.emit(Event{Kind: EventReconnectFailed, Err: err, Attempt: rc.attempts})
	}
}

// redial dials the next endpoint and sends HELLO. The reader handles WELCOME later.
func (rc *reconnector) redial() (*reader, error) {
	endpoint := rc.rounds.next()
	rc.attempts++
	timeout := min(maxDialTimeout, minDialTimeout<<min(rc.rounds.begun-1, 16))
	ctx, cancel := context.WithTimeout(rc.session.life.ctx, timeout)
	defer cancel()
	nc, err := rc.session.endpoints[endpoint].dial(ctx)
	switch {
	case err != nil:
		return nil, rc.session.atEndpoint(endpoint, fmt.Errorf("client: %w", err))
	case nc == nil:
		return nil, errNilConn // only Options.Dial returns nil, and then there is one endpoint
	}
	r := newReader(rc.session, nc, endpoint)
	r.limitHandshake(timeout)
	if _, err := rc.sendHello(ctx, r); err != nil {
		r.close(err)
		rc.rounds.end() // another address does not help if the application has no token
		return nil, err
	}
	return r, nil
}

// sendHello gets a token, if the application has one, and sends HELLO on the connection of r. It
// returns the channel for the identity.
func (rc *reconnector) sendHello(ctx context.Context, r *reader) (identity <-chan uint64, err error) {
	o := &rc.session.options
	token := ""
	if o.Version != 1 && o.GetToken != nil {
		if token, rc.nextToken = rc.nextToken, ""; token == "" {
			if token, err = o.GetToken(ctx); err != nil {
				return nil, &tokenError{err}
			}
		}
	}
	return r.sendHello(token), nil
}
