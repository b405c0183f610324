package client

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// abortTimeout is how long a canceled Dial tries to write BYE to the hub.
const abortTimeout = 100 * time.Millisecond

// Client is a client of a hub. All methods can be called concurrently, except where callbacks
// of Options say otherwise.
type Client struct {
	// Static after construction.
	options      Options
	maxBodyUnset bool // Options.MaxBody is 0: the hub decides
	ctx          context.Context
	cancel       context.CancelFunc // cancels ctx

	inbox       inbox
	sendQueue   sendQueue     // v2 only
	verdicts    verdicts      // v2 only
	presence    presenceCache // v2 only
	ackTimer    ackTimer      // v2 only
	counts      counts
	maxSendBody atomic.Int64 // largest body to send, in bytes
	version     atomic.Int32 // of the protocol; 0 until the handshake is done

	// Owned by the read goroutine.
	resumeSecret      string       // from the last WELCOME; "": no session to resume
	epoch             uint64       // of the hub
	reconnectAttempts int          // since the last WELCOME
	gotWelcome        bool         // WELCOME came on the connection of the last HELLO
	expired           expiredToken // the token that the hub has called expired since the last WELCOME
	nextToken         string       // the token for the next HELLO; "" calls Options.GetToken

	// Owned by tick, which runs once at a time.
	sendProbe    probeTimer // for the ACK of sent messages
	verdictProbe probeTimer // for the confirmation of verdicts

	done       <-chan struct{} // closed when the client has ended
	readerDone chan struct{}   // closed when the read goroutine has ended
	closing    chan struct{}   // closed when Close is called
	closed     chan struct{}   // closed when finishClose has returned
	closeOnce  sync.Once

	// callbacksDisabled is set when Close stops waiting for a running callback. OnMessage and
	// OnEvent are not called any more.
	callbacksDisabled atomic.Bool

	// Guarded by mu.
	mu          sync.Mutex
	id          uint64
	conn        *conn         // nil while disconnected
	connChanged chan struct{} // closed and replaced when conn changes
	byeSent     bool          // BYE has been queued
	err         error         // why the client has ended; set before done is closed
}

// Dial connects to the hub at addr and returns when the hub has told the client its id.
//
// addr is "host:port", or "hubs://host:port" for TLS. The port is optional (9999 by default):
// see ParseAddress. With Options.Dial, addr can be any text without a scheme, also "".
//
// Dial makes one attempt, which ends with ctx. Reconnecting starts after Dial has returned.
//
// The client has one goroutine that reads, and at times others that write, run timers and renew
// the token. All of them end with Close.
func Dial(ctx context.Context, addr string, options *Options) (*Client, error) {
	resolved, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if resolved.Dial, err = resolved.dialFuncFor(addr); err != nil {
		return nil, err
	}
	nc, err := resolved.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return newClient(ctx, nc, resolved, options.maxBodyUnset())
}

// NewConn is like Dial for the existing connection nc. The client owns nc, and NewConn closes
// nc when it fails. When nc is lost, the client ends unless Options.Dial is set.
func NewConn(ctx context.Context, nc net.Conn, options *Options) (*Client, error) {
	resolved, err := options.withDefaults()
	if err != nil {
		if nc != nil {
			nc.Close()
		}
		return nil, err
	}
	return newClient(ctx, nc, resolved, options.maxBodyUnset())
}

// newClient is NewConn with resolved options.
func newClient(ctx context.Context, nc net.Conn, options Options, maxBodyUnset bool) (*Client, error) {
	if nc == nil {
		return nil, errNilConn
	}
	c := &Client{
		options:      options,
		maxBodyUnset: maxBodyUnset,
		readerDone:   make(chan struct{}),
		closing:      make(chan struct{}),
		closed:       make(chan struct{}),
		connChanged:  make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.done = c.ctx.Done()
	c.inbox.init(options.MaxUnread, c.sendAck, c.ackTimer.arm)
	c.sendQueue.init(options.MaxQueued, options.Resend, (*conn).probe)
	c.presence.init()
	c.ackTimer.onTick = c.tick
	c.maxSendBody.Store(int64(options.MaxBody))
	cn := wrapConn(c, nc)
	c.conn = cn
	identity, err := c.sendHello(ctx, cn)
	if err != nil {
		c.cancel()
		cn.sock.Close()
		cn.sock.ReleaseAll()
		cn.sock.Wait()
		return nil, err
	}
	go c.run(cn) // ends with the client; Close waits for it
	if err := c.waitForID(ctx, cn, identity); err != nil {
		c.abortDial(cn)
		c.fail(err)
		select {
		case <-c.readerDone:
		case <-time.After(callbackTimeout):
			c.callbacksDisabled.Store(true)
		}
		if err == ErrHubClosed && options.Version == 1 { // version 1 has no frame that says why
			err = fmt.Errorf("%w during the handshake: it may require a token, which version 1 cannot send, require TLS, or be full", err)
		}
		return nil, fmt.Errorf("client: handshake with %s: %w", nc.RemoteAddr(), err)
	}
	return c, nil
}

// abortDial writes BYE to a connection that Dial has given up. The hub may have sent WELCOME at
// the same time, and without BYE it would keep the session for the resume window.
func (c *Client) abortDial(cn *conn) {
	if c.options.Version == 1 {
		return
	}
	timedOut := make(chan struct{})
	defer time.AfterFunc(abortTimeout, func() { close(timedOut) }).Stop()
	cn.sendFrame(wire.AppendBye(nil), &byeOptions)
	cn.sock.Drain(timedOut)
}

// waitForID returns when the hub has told the client its id. identity is the channel from
// sendHello.
func (c *Client) waitForID(ctx context.Context, cn *conn, identity <-chan uint64) error {
	select {
	case <-cn.welcomeDone:
		return nil
	case id, ok := <-identity:
		select {
		case <-cn.welcomeDone: // WELCOME came before the identity
			return nil
		default:
		}
		switch {
		case !ok:
			return c.closedErr()
		case c.options.Version == wire.Version2:
			return fmt.Errorf("%w: the hub speaks version 1 only", ErrVersion)
		}
		c.mu.Lock()
		c.id = id
		c.mu.Unlock()
		c.version.Store(1)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ID returns the id by which other clients reach this client. The id changes when the client
// reconnects after the resume window: see EventNewID.
func (c *Client) ID() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// Version returns the version of the protocol between client and hub: 1 or 2.
func (c *Client) Version() int { return int(c.version.Load()) }

func (c *Client) isV2() bool { return c.version.Load() == wire.Version2 }

// Done returns a channel that is closed when the client has ended: after Close, or when the
// connection is lost and the client does not reconnect.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the client has ended, and nil before. After Close it is ErrClosed, unless the
// client had ended before with another error.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// currentConn returns the connection, or nil while the client is disconnected.
func (c *Client) currentConn() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn
}

// waitConn returns the connection. While the client is disconnected, waitConn waits for the
// next one.
func (c *Client) waitConn(ctx context.Context) (*conn, error) {
	for {
		if err := c.checkOpen(ctx); err != nil {
			return nil, err
		}
		c.mu.Lock()
		cn, changed, err := c.conn, c.connChanged, c.err
		c.mu.Unlock()
		if cn != nil || err != nil {
			return cn, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-c.closing:
		case <-c.done:
		}
	}
}

// setConn sets the connection; nil means that the client is disconnected.
func (c *Client) setConn(cn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = cn
	close(c.connChanged)
	c.connChanged = make(chan struct{})
}

// detach removes cn, which has ended, from the client. In version 1 c.conn stays set, because
// no other connection follows.
func (c *Client) detach(cn *conn) {
	if c.isV2() && c.currentConn() == cn {
		c.setConn(nil)
	}
	c.sendQueue.detach()
	c.verdicts.detach()
	c.presence.detach()
}

// reconnectErr returns nil if the client reconnects, or has reconnected, after the loss of cn.
// Otherwise it returns why not.
func (c *Client) reconnectErr(cn *conn) error {
	if c.canReconnect() {
		select {
		case <-cn.done: // waitConn returns the next connection, or why there is none
			return nil
		case <-c.done:
		}
	}
	return c.closedErr()
}

// canReconnect reports whether the client reconnects when its connection is lost.
func (c *Client) canReconnect() bool {
	return c.isV2() && c.options.Dial != nil && !c.options.NoReconnect
}

// closedErr returns the error for calls on a client that cannot send any more.
func (c *Client) closedErr() error {
	if err := c.Err(); err != nil {
		return err
	}
	select {
	case <-c.closing: // Close was called and is not done
		return ErrClosed
	default:
		return ErrConnectionLost
	}
}

// fail ends the client with err. Only the first call counts.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	cn := c.conn
	c.mu.Unlock()
	if cn != nil {
		cn.sock.Close()
		cn.pending.close(err)
	}
	c.ackTimer.stop()
	c.inbox.close(err)
	c.presence.close(err)
	for _, waiter := range c.sendQueue.close(err) {
		waiter.onReport(nil, err)
	}
	c.cancel() // last: after c.done is closed nothing can be sent
}

// sendAck sends the cumulative ACK of the received messages, if one is due.
func (c *Client) sendAck() {
	upTo, cn := c.inbox.nextAck()
	if cn != nil {
		cn.sendFrame(wire.AppendAck(nil, upTo), &cn.ackOptions)
	}
}

// tick sends the delayed ACK, and probes the hub if the ACK of sent messages or the
// confirmation of verdicts is overdue. It reports whether another tick is needed.
func (c *Client) tick() bool {
	due, more := c.inbox.tick()
	if due {
		c.sendAck()
	}
	unacked, removals := c.sendQueue.hasUnacked()
	unconfirmed, confirmed := c.verdicts.hasUnconfirmed()
	probe := c.sendProbe.shouldProbe(unacked, removals)
	probe = c.verdictProbe.shouldProbe(unconfirmed, confirmed) || probe
	if cn := c.currentConn(); cn != nil && probe {
		cn.probe()
	}
	return more || unacked || unconfirmed
}

// handleError handles an ERROR frame, and passes the refusal of a message to its sender.
func (c *Client) handleError(e *wire.Error) {
	switch {
	case e.Code == wire.ErrorWatchers:
		c.presence.failWatchers(fmt.Errorf("%w: %s", ErrTooManyWatchers, e.Text))
	case e.Code == wire.ErrorRefused && e.Seq == 0:
		c.presence.failWatchers(fmt.Errorf("%w: %s", ErrWatchForbidden, e.Text))
	}
	if e.Seq == 0 {
		return // not about a message
	}
	err := &RefusedError{Seq: e.Seq, Code: e.Code, Reason: string(e.Text)}
	if waiter := c.sendQueue.dropRefused(e.Seq); waiter != nil {
		waiter.onReport(nil, err)
		return
	}
	c.emit(Event{Kind: EventRefused, Err: err})
}
