package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// A client that has lost its connection waits for a random delay before each attempt. The
// maximum of the delay begins with minBackoff, doubles with each attempt and ends with
// maxBackoff. The random part spreads the clients of one hub over time.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 20 * time.Second

	// minDialTimeout limits the first attempt. The limit doubles with each further attempt, up to
	// maxDialTimeout. An attempt that a bad network swallows must not use up the resume window,
	// because other clients may wait for this one.
	minDialTimeout = 3 * time.Second
	maxDialTimeout = 10 * time.Second

	// tokenGrace is how long the hub can reject the same token as expired before the client gives
	// up. A token service can renew a token slightly too late.
	tokenGrace = time.Minute
)

// emit calls Options.OnEvent, unless Close has given up on a callback.
func (c *Client) emit(e Event) {
	if c.options.OnEvent != nil && !c.callbacksDisabled.Load() {
		e.ID = c.ID()
		c.options.OnEvent(e)
	}
}

// run is the read goroutine. It reads and reconnects until the client has ended.
func (c *Client) run(cn *conn) {
	defer close(c.readerDone)
	for cn != nil {
		err := c.disconnectErr(cn, cn.readLoop())
		reconnect := c.shouldReconnect(cn, err)
		if !reconnect {
			c.fail(err)
		}
		cn.close(err)
		if !reconnect {
			break
		}
		cn = c.reconnect(cn, err)
	}
	if c.version.Load() != 0 { // otherwise Dial has failed, and the application has no Client
		c.emit(Event{Kind: EventClosed, Err: c.Err()})
	}
}

// sendHello sends HELLO and an identity request. A hub of version 1 ignores HELLO and replies
// to the identity request; because of this, the client can tell version 1 from a slow hub. It
// returns the channel for the identity.
func (c *Client) sendHello(ctx context.Context, cn *conn) (identity <-chan uint64, err error) {
	identity = addWaiter(&cn.pending, &cn.pending.identity)
	var frames []byte
	if c.options.Version != 1 {
		hello := wire.Hello{Version: wire.Version2, Name: c.options.Name, Confirms: true, Skip: true}
		if !c.maxBodyUnset {
			hello.MaxBody = uint64(c.options.MaxBody)
		}
		if c.options.GetToken != nil {
			if hello.Token, err = c.getToken(ctx); err != nil {
				return nil, fmt.Errorf("client: get token: %w", err)
			}
			cn.token = hello.Token
		}
		if c.resumeSecret != "" {
			hello.ID, hello.Resume = c.ID(), c.resumeSecret
			hello.Received, cn.read = c.inbox.detach()
			cn.duplicates = cn.read.frames - hello.Received
			if c.gotWelcome {
				hello.Read = &cn.read.frames
			}
		}
		c.gotWelcome = false
		frames = wire.AppendHello(frames, &hello)
	}
	cn.sendFrame(wire.AppendIdentityRequest(frames), &forceOptions)
	return identity, nil
}

// getToken returns the token for the next connection. The read goroutine calls it, or Dial.
func (c *Client) getToken(ctx context.Context) (token string, err error) {
	if token, c.nextToken = c.nextToken, ""; token != "" {
		return token, nil
	}
	return c.options.GetToken(ctx)
}

// handleWelcome handles WELCOME: it starts a session of version 2 or resumes one.
func (cn *conn) handleWelcome(payload []byte) error {
	c := cn.client
	w, err := wire.ParseWelcome(payload)
	if err != nil {
		return err
	}
	first := !c.isV2()
	switch {
	case cn.welcome != nil, c.options.Version == 1, cn.isV1:
		return unexpectedFrameError(wire.TypeWelcome)
	case w.Version != wire.Version2, w.Credit < 1, w.Window < 1, w.MaxReports < 1, w.MaxBody < 0, w.MaxDeliver < 0, w.Keepalive < 1,
		w.MaxReportTimeout < 0, w.ReceiverCost < 0, w.ReceiverCost > wire.DefaultReceiverCost,
		w.Resumed && (first || w.ID != c.ID()):
		return fmt.Errorf("%w: WELCOME %s", ErrProtocol, payload)
	}
	newSession := !w.Resumed
	if newSession {
		cn.duplicates = 0
	}
	cn.welcome = &w
	cn.read = c.inbox.attach(cn, w.Window, newSession)
	c.inbox.removeLimit()
	if newSession {
		// HELLO has announced this ACK: see wire.Hello.Confirms.
		cn.sendFrame(wire.AppendAck(nil, 0), &forceOptions)
	}
	cn.verdictSink = &verdictSink{c, c.verdicts.attach(cn, newSession)}
	newHub := !first && w.Epoch != c.epoch
	c.presence.attach(cn, newHub)
	c.resumeSecret, c.epoch, c.reconnectAttempts, c.expired, c.gotWelcome = w.Resume, w.Epoch, 0, expiredToken{}, true
	cn.setBodyLimits(&w)
	c.mu.Lock()
	c.id = w.ID
	c.mu.Unlock()
	c.version.Store(wire.Version2)
	cn.startKeepAlive(time.Duration(w.Keepalive) * time.Millisecond)
	if w.Expires > 0 && c.options.GetToken != nil && c.canReconnect() {
		cn.startRenewal(time.Duration(min(w.Expires, int64(maxTokenLifetime/time.Millisecond))) * time.Millisecond)
	}
	if err := c.resumeSending(cn, &w, first, newHub); err != nil {
		return err
	}
	close(cn.welcomeDone)
	return nil
}

// setBodyLimits sets the maximum body size in both directions.
func (cn *conn) setBodyLimits(w *wire.Welcome) {
	c := cn.client
	if !c.maxBodyUnset {
		c.maxSendBody.Store(int64(min(c.options.MaxBody, w.MaxBody)))
		return
	}
	c.maxSendBody.Store(int64(min(w.MaxBody, wire.MaxBodyLimit)))
	cn.maxBody = min(max(cn.maxBody, w.MaxBody, w.MaxDeliver), wire.MaxBodyLimit)
	cn.sock.SetMaxLength(c.options.maxLengthFor(cn.maxBody))
}

// resumeSending sends the unacknowledged and unsent messages, and emits EventResumed or
// EventNewID. first means that this is the first connection of the client, and newHub that the
// hub is not the one of the last connection, or has restarted.
func (c *Client) resumeSending(cn *conn, w *wire.Welcome, first, newHub bool) error {
	limits := sendLimits{
		credit: w.Credit, receiverCost: cmp.Or(w.ReceiverCost, wire.DefaultReceiverCost), maxReports: w.MaxReports, grantsIDs: w.GrantsIDs,
		maxReportTimeout: time.Duration(min(w.MaxReportTimeout, wire.MaxReportTimeout.Milliseconds())) * time.Millisecond,
	}
	defer c.ackTimer.arm()
	if w.Resumed {
		// First, because acknowledged messages need no probe.
		if err := c.sendQueue.handleAck(w.Acked); err != nil {
			return err
		}
		undeliverable, waiter := c.sendQueue.resume(cn, limits, w.Seq)
		c.setConn(cn)
		c.emit(Event{Kind: EventResumed})
		if undeliverable != 0 {
			c.failUndeliverable(undeliverable, waiter)
		}
		return nil
	}
	failed, unconfirmed := c.sendQueue.restart(cn, limits, newHub)
	c.setConn(cn)
	if !first {
		c.emit(Event{Kind: EventNewID, Unconfirmed: unconfirmed})
	}
	for _, waiter := range failed {
		waiter.onReport(nil, ErrSessionLost)
	}
	return nil
}

// failUndeliverable reports ErrUndeliverable for a message: to waiter, or as an event if waiter
// is nil.
func (c *Client) failUndeliverable(seq uint64, waiter *call) {
	err := fmt.Errorf("%w: message %d", ErrUndeliverable, seq)
	if waiter != nil {
		waiter.onReport(nil, err)
		return
	}
	c.emit(Event{Kind: EventRefused, Err: err})
}

// reconnect returns the next connection after cn, which has ended with err, or nil if the
// client has ended.
func (c *Client) reconnect(cn *conn, err error) *conn {
	delay := time.Duration(0)
	if cn.welcome != nil {
		c.emit(Event{Kind: EventDisconnected, Err: err})
	} else {
		c.reconnectFailed(err)
	}
	if cn.goAway != nil {
		delay = time.Duration(cn.goAway.After) * time.Millisecond
	}
	for {
		if !errors.Is(err, errTokenRenewed) {
			delay += rand.N(min(maxBackoff, minBackoff<<min(c.reconnectAttempts, 16)))
		}
		c.reconnectAttempts++
		select {
		case <-time.After(delay):
		case <-c.done:
			return nil
		}
		var nextConn *conn
		if nextConn, err = c.redial(); err == nil {
			return nextConn
		}
		c.reconnectFailed(err)
		delay = 0
	}
}

// reconnectFailed emits EventReconnectFailed, unless the client has ended.
func (c *Client) reconnectFailed(err error) {
	if c.ctx.Err() == nil {
		c.emit(Event{Kind: EventReconnectFailed, Err: err, Attempt: c.reconnectAttempts})
	}
}

// disconnectErr returns why cn has ended. err is the error of readLoop.
func (c *Client) disconnectErr(cn *conn, err error) error {
	c.mu.Lock()
	byeSent := c.byeSent
	c.mu.Unlock()
	if byeSent && err == ErrHubClosed && cn.goAway == nil { // the reply to BYE, behind all ACKs
		c.sendQueue.ackAll()
	}
	select {
	case <-c.closing:
		return ErrClosed
	default:
	}
	switch {
	case cn.keepAliveTimedOut.Load():
		return errKeepAliveTimeout
	case cn.goAway != nil:
		return &GoAwayError{Code: cn.goAway.Code, Reason: cn.goAway.Reason, Reconnect: cn.goAway.Reconnect}
	case cn.isV1 && c.isV2():
		return fmt.Errorf("%w: the hub now speaks version 1", ErrVersion)
	case cn.renewed.Load():
		return errTokenRenewed
	case cn.welcome == nil && cn.welcomeTimedOut.Load():
		return errWelcomeTimeout
	}
	return err
}

// shouldReconnect reports whether the client reconnects after cn has ended with err.
func (c *Client) shouldReconnect(cn *conn, err error) bool {
	var away *GoAwayError
	switch {
	case !c.canReconnect(), errors.Is(err, ErrProtocol), errors.Is(err, ErrVersion):
		return false
	case errors.As(err, &away) && !away.Reconnect:
		return false
	case errors.As(err, &away) && away.Code == wire.GoAwayExpired:
		return c.canRenew(cn.token)
	case errors.Is(err, ErrClosed):
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.byeSent && c.sendQueue.count() > 0
	}
	return true
}

// expiredToken is a token that the hub has rejected as expired.
type expiredToken struct {
	token string
	since time.Time // time of the first rejection since the last WELCOME; zero: none
}

// canRenew reports whether the client may get a newer token or certificate than the expired
// one. The hub does not say which of the two has expired.
func (c *Client) canRenew(token string) bool {
	if tls := c.options.TLS; c.options.GetToken == nil && (tls == nil || tls.GetClientCertificate == nil) {
		return false
	}
	if c.expired.since.IsZero() || c.expired.token != token {
		c.expired = expiredToken{token, time.Now()}
	}
	// Monotonic clock: stands still while the machine sleeps.
	return time.Since(c.expired.since) < tokenGrace
}

// redial dials and sends HELLO. handleWelcome handles the WELCOME later.
func (c *Client) redial() (*conn, error) {
	timeout := min(maxDialTimeout, minDialTimeout<<min(c.reconnectAttempts-1, 16))
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	defer cancel()
	nc, err := c.options.Dial(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("client: %w", err)
	case nc == nil:
		return nil, errNilConn
	}
	cn := wrapConn(c, nc)
	// Until WELCOME, Client.conn is nil and fail cannot close cn.
	cn.stopClose = context.AfterFunc(c.ctx, func() { cn.sock.Close() })
	cn.timer = time.AfterFunc(timeout, func() { // handshake timeout
		cn.welcomeTimedOut.Store(true)
		cn.sock.Close()
	})
	if _, err := c.sendHello(ctx, cn); err != nil {
		cn.close(err)
		return nil, err
	}
	return cn, nil
}
