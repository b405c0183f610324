package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// A client that has lost its connection tries again after a random time below a limit
// that doubles with each attempt, so that those of one hub do not all come at once.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 20 * time.Second

	// minDialTimeout is how long the first attempt may take, and maxDialTimeout what each may that comes after
	// two more, each twice as long. One that is lost on a bad network must not take all the
	// time in which the client is expected back: others may wait for it.
	minDialTimeout = 3 * time.Second
	maxDialTimeout = 10 * time.Second

	// tokenGrace is how long the hub may say of the same token that it is over before the client
	// gives up. Whoever renews tokens may do so a moment too late.
	tokenGrace = time.Minute
)

// EventKind is what has happened to a client's connection.
type EventKind int

// The kinds of events.
const (
	// EventDisconnected says that the connection was lost. The client tries to come
	// back.
	EventDisconnected EventKind = iota

	// EventReconnectFailed says that an attempt to come back has failed, and by Err why. The
	// next attempt follows after a random pause of at most 20 s, or when the hub has asked for
	// it. An application that wants to give up calls Close, from another goroutine.
	EventReconnectFailed

	// EventResumed says that it is back, and nothing was lost.
	EventResumed

	// EventNewID says that it is back, but the hub did not know it any more: it has a
	// new id. What others had sent it and it has not received is lost; what it had sent
	// itself is sent again or has failed (Options.Resend). When the hub has started anew, or is
	// another one, the ids of all others mean nothing any more, but for those that tokens grant:
	// what was to be sent to them has failed.
	EventNewID

	// EventRefused says that a message for which nobody waits for a report was not sent. The hub
	// has not taken it, which cannot happen while its limits stay as they are; or by Err it is
	// ErrUndeliverable.
	EventRefused

	// EventClosed says that the client is over. It is the last one.
	EventClosed
)

var eventNames = [...]string{"disconnected", "reconnect failed", "resumed", "new id", "refused", "closed"}

// String returns the name of the kind.
func (k EventKind) String() string {
	if k < 0 || int(k) >= len(eventNames) {
		return "event " + strconv.Itoa(int(k))
	}
	return eventNames[k]
}

// Event is something that has happened to a client's connection.
type Event struct {
	Kind EventKind
	ID   uint64 // the client's id after it
	Err  error  // why; nil for EventResumed and EventNewID

	// Attempt is, for EventReconnectFailed, the number of the attempt since the client was
	// connected, from 1.
	Attempt int

	// Unconfirmed is, for EventNewID, how many messages of Send may not have reached the hub and are
	// not sent again: those that it has perhaps not had, without Options.Resend, and those to ids
	// that mean nothing any more.
	Unconfirmed int
}

// emit tells the application.
func (c *Client) emit(e Event) {
	if c.options.OnEvent != nil && !c.callbacksDisabled.Load() {
		e.ID = c.ID()
		c.options.OnEvent(e)
	}
}

// run reads until the client is over. On the way it comes back as often as it must.
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
	if c.version.Load() != 0 { // or New has failed, and nobody knows of it
		c.emit(Event{Kind: EventClosed, Err: c.Err()})
	}
}

// sendHello says the first words on a connection. The identity that it asks for tells a hub
// of version 1 from one that takes its time.
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
				return nil, fmt.Errorf("client: no token: %w", err)
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

// getToken returns what to show on the next connection.
func (c *Client) getToken(ctx context.Context) (token string, err error) {
	if token, c.nextToken = c.nextToken, ""; token != "" {
		return token, nil
	}
	return c.options.GetToken(ctx)
}

// handleWelcome begins with version 2 on a connection, or goes on.
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
		cn.sendFrame(wire.AppendAck(nil, 0), &forceOptions) // as HELLO says
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

// setBodyLimits settles how large bodies may be, in both directions.
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

// resumeSending sends what is still to be sent, and tells the application how it stands: it is the client's
// first connection, or one to another hub than before.
func (c *Client) resumeSending(cn *conn, w *wire.Welcome, first, newHub bool) error {
	limits := sendLimits{
		credit: w.Credit, receiverCost: cmp.Or(w.ReceiverCost, wire.DefaultReceiverCost), maxReports: w.MaxReports, grantsIDs: w.GrantsIDs,
		maxReportTimeout: time.Duration(min(w.MaxReportTimeout, wire.MaxReportTimeout.Milliseconds())) * time.Millisecond,
	}
	defer c.ackTimer.arm()
	if w.Resumed {
		if err := c.sendQueue.handleAck(w.Acked); err != nil { // first, for then there is less to ask for
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

// failUndeliverable tells the application that a message is not sent: the one who waits for its report, if
// anybody does.
func (c *Client) failUndeliverable(seq uint64, waiter *call) {
	err := fmt.Errorf("%w: message %d", ErrUndeliverable, seq)
	if waiter != nil {
		waiter.onReport(nil, err)
		return
	}
	c.emit(Event{Kind: EventRefused, Err: err})
}

// reconnect returns the connection that follows on one that has ended, or nil when the
// client is over.
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

// reconnectFailed tells the application that the current attempt has failed, unless it has
// because the client is over.
func (c *Client) reconnectFailed(err error) {
	if c.ctx.Err() == nil {
		c.emit(Event{Kind: EventReconnectFailed, Err: err, Attempt: c.reconnectAttempts})
	}
}

// disconnectErr returns why a connection has ended.
func (c *Client) disconnectErr(cn *conn, err error) error {
	c.mu.Lock()
	byeSent := c.byeSent
	c.mu.Unlock()
	if byeSent && err == ErrHubClosed && cn.goAway == nil { // in answer to BYE, so behind all that was sent before
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
		return fmt.Errorf("%w: the hub speaks version 1 now", ErrVersion)
	case cn.renewed.Load():
		return errTokenRenewed
	case cn.welcome == nil && cn.welcomeTimedOut.Load():
		return errWelcomeTimeout
	}
	return err
}

// shouldReconnect reports whether the client comes back from such an end of l.
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
		return !c.byeSent && c.sendQueue.len() > 0
	}
	return true
}

// expiredToken is a token of which the hub has said that it is good no longer.
type expiredToken struct {
	token string
	since time.Time // when it said so first; zero: it has not since the last WELCOME
}

// canRenew reports whether there may be something newer to show than what is over: a token or, for
// the hub does not say which of them it is, a certificate.
func (c *Client) canRenew(token string) bool {
	if tls := c.options.TLS; c.options.GetToken == nil && (tls == nil || tls.GetClientCertificate == nil) {
		return false
	}
	if c.expired.since.IsZero() || c.expired.token != token {
		c.expired = expiredToken{token, time.Now()}
	}
	return time.Since(c.expired.since) < tokenGrace // of the time that the machine was awake
}

// redial makes a connection and says hello on it. WELCOME comes later: see welcomed.
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
	cn.stopClose = context.AfterFunc(c.ctx, func() { cn.sock.Close() }) // nobody else knows of it until WELCOME
	cn.timer = time.AfterFunc(timeout, func() {                         // until WELCOME
		cn.welcomeTimedOut.Store(true)
		cn.sock.Close()
	})
	if _, err := c.sendHello(ctx, cn); err != nil {
		cn.close(err)
		return nil, err
	}
	return cn, nil
}
