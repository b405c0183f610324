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
	firstPause   = 200 * time.Millisecond
	longestPause = 20 * time.Second

	// firstPatience is how long the first attempt may take, and longestPatience what each may that comes after
	// two more, each twice as long. One that is lost on a bad network must not take all the
	// time in which the client is expected back: others may wait for it.
	firstPatience   = 3 * time.Second
	longestPatience = 10 * time.Second

	// maxRenewal is how long the hub may say of the same token that it is over before the client
	// gives up. Whoever renews tokens may do so a moment too late.
	maxRenewal = time.Minute
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

// event tells the application.
func (c *Client) event(e Event) {
	if c.options.OnEvent != nil && !c.abandoned.Load() {
		e.ID = c.ID()
		c.options.OnEvent(e)
	}
}

// run reads until the client is over. On the way it comes back as often as it must.
func (c *Client) run(l *link) {
	defer close(c.stopped)
	for l != nil {
		err := c.verdict(l, l.serve())
		returns := c.mayReturn(l, err)
		if !returns {
			c.fail(err)
		}
		l.finish(err)
		if !returns {
			break
		}
		l = c.next(l, err)
	}
	if c.version.Load() != 0 { // or New has failed, and nobody knows of it
		c.event(Event{Kind: EventClosed, Err: c.Err()})
	}
}

// greet says the first words on a connection. The identity that it asks for tells a hub
// of version 1 from one that takes its time.
func (c *Client) greet(ctx context.Context, l *link) (identity <-chan uint64, err error) {
	identity = join(&l.pending, &l.pending.identity)
	var frames []byte
	if c.options.Version != 1 {
		hello := wire.Hello{Version: wire.Version2, Name: c.options.Name, Confirms: true, Skip: true}
		if !c.anyBody {
			hello.MaxBody = uint64(c.options.MaxBody)
		}
		if c.options.Token != nil {
			if hello.Token, err = c.token(ctx); err != nil {
				return nil, fmt.Errorf("client: no token: %w", err)
			}
			l.token = hello.Token
		}
		if c.secret != "" {
			hello.ID, hello.Resume = c.ID(), c.secret
			hello.Received, l.read = c.inbox.detach()
			l.skip = l.read.frames - hello.Received
			if c.welcome {
				hello.Read = &l.read.frames
			}
		}
		c.welcome = false
		frames = wire.AppendHello(frames, &hello)
	}
	l.say(wire.AppendIdentityRequest(frames), &insisting)
	return identity, nil
}

// token returns what to show on the next connection.
func (c *Client) token(ctx context.Context) (token string, err error) {
	if token, c.fresh = c.fresh, ""; token != "" {
		return token, nil
	}
	return c.options.Token(ctx)
}

// welcomed begins with version 2 on a connection, or goes on.
func (l *link) welcomed(payload []byte) error {
	c := l.client
	w, err := wire.ParseWelcome(payload)
	if err != nil {
		return err
	}
	first := !c.newer()
	switch {
	case l.welcome != nil, c.options.Version == 1, l.classic:
		return unexpected(wire.TypeWelcome)
	case w.Version != wire.Version2, w.Credit < 1, w.Window < 1, w.MaxReports < 1, w.MaxBody < 0, w.MaxDeliver < 0, w.Keepalive < 1,
		w.MaxReportTimeout < 0, w.ReceiverCost < 0, w.ReceiverCost > wire.DefaultReceiverCost,
		w.Resumed && (first || w.ID != c.ID()):
		return fmt.Errorf("%w: WELCOME %s", ErrProtocol, payload)
	}
	anew := !w.Resumed
	if anew {
		l.skip = 0
	}
	l.welcome = &w
	l.read = c.inbox.attach(l, w.Window, anew)
	c.inbox.unlimit()
	if anew {
		l.say(wire.AppendTaken(nil, 0), &insisting) // as HELLO says
	}
	l.judge = &judge{c, c.verdicts.attach(l, anew)}
	another := !first && w.Epoch != c.epoch
	c.watching.attach(l, another)
	c.secret, c.epoch, c.attempts, c.over, c.welcome = w.Resume, w.Epoch, 0, over{}, true
	l.limitBody(&w)
	c.mu.Lock()
	c.id = w.ID
	c.mu.Unlock()
	c.version.Store(wire.Version2)
	l.live(time.Duration(w.Keepalive) * time.Millisecond)
	if w.Expires > 0 && c.options.Token != nil && c.returns() {
		l.startRenewal(time.Duration(min(w.Expires, int64(maxExpires/time.Millisecond))) * time.Millisecond)
	}
	if err := c.goOn(l, &w, first, another); err != nil {
		return err
	}
	close(l.greeted)
	return nil
}

// limitBody settles how large bodies may be, in both directions.
func (l *link) limitBody(w *wire.Welcome) {
	c := l.client
	if !c.anyBody {
		c.bodyMost.Store(int64(min(c.options.MaxBody, w.MaxBody)))
		return
	}
	c.bodyMost.Store(int64(min(w.MaxBody, wire.BodyMost)))
	l.maxBody = min(max(l.maxBody, w.MaxBody, w.MaxDeliver), wire.BodyMost)
	l.conn.SetMaxLength(c.options.maxLengthFor(l.maxBody))
}

// goOn sends what is still to be sent, and tells the application how it stands: it is the client's
// first connection, or one to another hub than before.
func (c *Client) goOn(l *link, w *wire.Welcome, first, another bool) error {
	t := terms{
		credit: w.Credit, receiverCost: cmp.Or(w.ReceiverCost, wire.DefaultReceiverCost), reports: w.MaxReports, grantsIDs: w.GrantsIDs,
		maxReportTimeout: time.Duration(min(w.MaxReportTimeout, wire.MaxReportTimeout.Milliseconds())) * time.Millisecond,
	}
	defer c.soon.arm()
	if w.Resumed {
		if err := c.outgoing.taken(w.Taken); err != nil { // first, for then there is less to ask for
			return err
		}
		stuck, one := c.outgoing.resume(l, t, w.Seq)
		c.attach(l)
		c.event(Event{Kind: EventResumed})
		if stuck != 0 {
			c.giveUp(stuck, one)
		}
		return nil
	}
	failed, unconfirmed := c.outgoing.restart(l, t, another)
	c.attach(l)
	if !first {
		c.event(Event{Kind: EventNewID, Unconfirmed: unconfirmed})
	}
	for _, one := range failed {
		one.done(nil, ErrForgotten)
	}
	return nil
}

// giveUp tells the application that a message is not sent: the one who waits for its report, if
// anybody does.
func (c *Client) giveUp(seq uint64, one *call) {
	err := fmt.Errorf("%w: message %d", ErrUndeliverable, seq)
	if one != nil {
		one.done(nil, err)
		return
	}
	c.event(Event{Kind: EventRefused, Err: err})
}

// next returns the connection that follows on one that has ended, or nil when the
// client is over.
func (c *Client) next(l *link, err error) *link {
	pause := time.Duration(0)
	if l.welcome != nil {
		c.event(Event{Kind: EventDisconnected, Err: err})
	} else {
		c.reconnectFailed(err)
	}
	if l.away != nil {
		pause = time.Duration(l.away.After) * time.Millisecond
	}
	for {
		if !errors.Is(err, errRenew) {
			pause += rand.N(min(longestPause, firstPause<<min(c.attempts, 16)))
		}
		c.attempts++
		select {
		case <-time.After(pause):
		case <-c.done:
			return nil
		}
		var next *link
		if next, err = c.redial(); err == nil {
			return next
		}
		c.reconnectFailed(err)
		pause = 0
	}
}

// reconnectFailed tells the application that the current attempt has failed, unless it has
// because the client is over.
func (c *Client) reconnectFailed(err error) {
	if c.life.Err() == nil {
		c.event(Event{Kind: EventReconnectFailed, Err: err, Attempt: c.attempts})
	}
}

// verdict returns why a connection has ended.
func (c *Client) verdict(l *link, err error) error {
	c.mu.Lock()
	left := c.leaving
	c.mu.Unlock()
	if left && err == ErrHubClosed && l.away == nil { // in answer to BYE, so behind all that was sent before
		c.outgoing.had()
	}
	select {
	case <-c.closing:
		return ErrClosed
	default:
	}
	switch {
	case l.silent.Load():
		return errSilent
	case l.away != nil:
		return &GoAwayError{Code: l.away.Code, Reason: l.away.Reason, Reconnect: l.away.Reconnect}
	case l.classic && c.newer():
		return fmt.Errorf("%w: the hub speaks version 1 now", ErrVersion)
	case l.renewed.Load():
		return errRenew
	case l.welcome == nil && l.late.Load():
		return errLate
	}
	return err
}

// mayReturn reports whether the client comes back from such an end of l.
func (c *Client) mayReturn(l *link, err error) bool {
	var away *GoAwayError
	switch {
	case !c.returns(), errors.Is(err, ErrProtocol), errors.Is(err, ErrVersion):
		return false
	case errors.As(err, &away) && !away.Reconnect:
		return false
	case errors.As(err, &away) && away.Code == wire.GoAwayExpired:
		return c.mayRenew(l.token)
	case errors.Is(err, ErrClosed):
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.leaving && c.outgoing.left() > 0
	}
	return true
}

// over is a token of which the hub has said that it is good no longer.
type over struct {
	token string
	since time.Time // when it said so first; zero: it has not since the last WELCOME
}

// mayRenew reports whether there may be something newer to show than what is over: a token or, for
// the hub does not say which of them it is, a certificate.
func (c *Client) mayRenew(token string) bool {
	if tls := c.options.TLS; c.options.Token == nil && (tls == nil || tls.GetClientCertificate == nil) {
		return false
	}
	if c.over.since.IsZero() || c.over.token != token {
		c.over = over{token, time.Now()}
	}
	return time.Since(c.over.since) < maxRenewal // of the time that the machine was awake
}

// redial makes a connection and says hello on it. WELCOME comes later: see welcomed.
func (c *Client) redial() (*link, error) {
	patience := min(longestPatience, firstPatience<<min(c.attempts-1, 16))
	ctx, cancel := context.WithTimeout(c.life, patience)
	defer cancel()
	nc, err := c.options.Dial(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("client: %w", err)
	case nc == nil:
		return nil, errNoConn
	}
	l := newLink(c, nc)
	l.forget = context.AfterFunc(c.life, func() { l.conn.Close() }) // nobody else knows of it until WELCOME
	l.timer = time.AfterFunc(patience, func() {                     // until WELCOME
		l.late.Store(true)
		l.conn.Close()
	})
	if _, err := c.greet(ctx, l); err != nil {
		l.finish(err)
		return nil, err
	}
	return l, nil
}
