// Package client speaks to a message hub: it connects, learns its id, sends
// bodies to other clients by their ids and receives what they send.
//
//	c, err := client.Dial(ctx, "localhost:9999", nil)
//	…
//	defer c.Close()
//
//	go func() {
//		for m, err := range c.Messages(ctx) {
//			if err != nil {
//				return // the client has ended
//			}
//			fmt.Printf("%d says %s\n", m.From, m.Body)
//			m.Done()
//		}
//	}()
//
//	others, err := c.List(ctx)
//	…
//	report, err := c.SendReport(ctx, others, []byte("hello"), nil)
//	…
//	for i, fate := range report.Fates {
//		fmt.Println(others[i], fate) // "2 received", "3 gone"
//	}
//
// Messages from one sender arrive once, and in the order in which it sent them. They are
// received by Receive, by Messages or, with the least work, by Options.OnMessage.
// Those that nobody receives yet wait in a bounded space; when that is full, the hub
// slows down those who send here, and in the end disconnects a client that never
// receives.
//
// Send hands a message to the hub, and the hub hands it on: that is all one knows, and for
// much it is enough. SendReport and SendFunc tell what became of it for each
// receiver: written to its connection; received, which its client says when the application has
// got it; processed, which the application says by Message.Ack. Who left before is
// gone, and where the hub cannot know, the fate is uncertain.
//
// A client that loses its connection comes back by itself, with the same id if the hub
// still knows it: then nothing is lost, doubled or reordered, and nobody notices but
// Options.OnEvent. If it comes back too late it has a new id, and is told what it must
// not rely on (Options.Resend).
//
// All this is version 2 of the protocol. With a hub that speaks only version 1 the client
// does so as well: Send, List and messages work, there are no reports, and the
// client ends with its connection.
//
// The package knows the protocol (wire) and the connection (internal/socket), and
// nothing of the hub's insides.
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

// abortTimeout is how long Dial may take, when it is given up, to say so to the hub.
const abortTimeout = 100 * time.Millisecond

// Client is a client of a hub. All methods may be called concurrently.
type Client struct {
	// Static after construction.
	options      Options
	maxBodyUnset bool // Options.MaxBody was left to the hub
	ctx          context.Context
	cancel       context.CancelFunc // of life

	inbox       inbox
	sendQueue   sendQueue     // version 2
	verdicts    verdicts      // likewise
	presence    presenceCache // likewise
	ackTimer    ackTimer      // likewise
	counts      counts
	maxSendBody atomic.Int64 // bytes
	version     atomic.Int32 // of the protocol; 0: not settled yet

	// Owned by the reading goroutine.
	resumeSecret      string       // to come back with; "": it cannot
	epoch             uint64       // of the hub
	reconnectAttempts int          // to come back, since it was connected
	gotWelcome        bool         // has come on the connection on which HELLO was said last
	expired           expiredToken // what it was sent away for, since then
	nextToken         string       // a token to show on the next connection; "": it is asked for

	// Owned by tick, which runs once at a time.
	sendProbe    probeTimer // whether the hub has taken what was sent
	verdictProbe probeTimer // whether it has heard the verdicts

	done       <-chan struct{} // closed when the client is over
	readerDone chan struct{}   // closed when the reading goroutine has ended
	closing    chan struct{}   // closed by Close
	closed     chan struct{}   // closed when Close has done all
	closeOnce  sync.Once

	callbacksDisabled atomic.Bool // Close has not waited for a function of the application: no other is called

	mu          sync.Mutex
	id          uint64
	conn        *conn         // nil: there is no connection
	connChanged chan struct{} // closed and made anew when link changes
	byeSent     bool          // BYE has been said
	err         error         // why it is over; set before done is closed
}

// Dial connects to the hub at addr and returns when the hub has told the client's id. addr is
// "host:port", or with TLS "hubs://host:port"; the port may be left out (9999): see ParseAddress.
// With Options.Dial it is anything that has no scheme, and may be empty. Dial gives up when ctx ends; only later does the client come back
// by itself. The client has one goroutine that reads, and at times one that writes;
// both end with Close.
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

// NewConn is Dial for a connection that there is already. The connection belongs to
// the client, and is closed when New fails. When it is lost, the client ends
// unless Options.Dial makes another.
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

// newClient is New with options that are complete.
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
	c.sendQueue.init(options.MaxQueued, options.Resend)
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
		if err == ErrHubClosed && options.Version == 1 { // which has no words for why
			err = fmt.Errorf("%w at once: it may ask for a token, which version 1 cannot show, want TLS, or be full", err)
		}
		return nil, fmt.Errorf("client: learn the id from %s: %w", nc.RemoteAddr(), err)
	}
	return c, nil
}

// abortDial says BYE on a connection that is not waited for any longer: WELCOME may have come in
// this moment and be confirmed, and then the hub would expect the client back.
func (c *Client) abortDial(cn *conn) {
	if c.options.Version == 1 {
		return
	}
	timedOut := make(chan struct{})
	defer time.AfterFunc(abortTimeout, func() { close(timedOut) }).Stop()
	cn.sendFrame(wire.AppendBye(nil), &byeOptions)
	cn.sock.Drain(timedOut)
}

// waitForID returns when the hub has told who the client is.
func (c *Client) waitForID(ctx context.Context, cn *conn, identity <-chan uint64) error {
	select {
	case <-cn.welcomeDone:
		return nil
	case id, ok := <-identity:
		select {
		case <-cn.welcomeDone: // before
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

// ID returns the id by which others reach this client. It changes when the client
// comes back to a hub that does not know it any more: see EventNewID.
func (c *Client) ID() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// Version returns the version of the protocol that client and hub speak: 1 or 2.
func (c *Client) Version() int { return int(c.version.Load()) }

func (c *Client) isV2() bool { return c.version.Load() == wire.Version2 }

// Done returns a channel that is closed when the client is over: after Close, or when
// the connection is lost and it cannot or must not come back.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the client is over, and nil while it is not. After Close
// it is ErrClosed, unless the client was over before.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// currentConn returns the connection that there is, or nil.
func (c *Client) currentConn() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn
}

// waitConn returns the connection. If there is none, it waits for it.
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

// setConn makes l the connection; nil: there is none.
func (c *Client) setConn(cn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = cn
	close(c.connChanged)
	c.connChanged = make(chan struct{})
}

// detach says that l is the connection no more. In version 1 there will be no other.
func (c *Client) detach(cn *conn) {
	if c.isV2() && c.currentConn() == cn {
		c.setConn(nil)
	}
	c.sendQueue.detach()
	c.verdicts.detach()
	c.presence.detach()
}

// reconnectErr returns nil when the client will come back from the loss of l, or has, and
// otherwise why it does not.
func (c *Client) reconnectErr(cn *conn) error {
	if c.canReconnect() {
		select {
		case <-cn.done: // then connected knows
			return nil
		case <-c.done:
		}
	}
	return c.closedErr()
}

// canReconnect reports whether the client comes back when its connection is lost.
func (c *Client) canReconnect() bool {
	return c.isV2() && c.options.Dial != nil && !c.options.NoReconnect
}

// closedErr returns why nothing can be sent any more.
func (c *Client) closedErr() error {
	if err := c.Err(); err != nil {
		return err
	}
	select {
	case <-c.closing: // Close is about it
		return ErrClosed
	default:
		return ErrConnectionLost
	}
}

// fail ends the client. The first error counts.
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
	c.cancel() // at the end: who sees it can send nothing more
}

// sendAck tells the hub what was received.
func (c *Client) sendAck() {
	upTo, cn := c.inbox.nextAck()
	if cn != nil {
		cn.sendFrame(wire.AppendAck(nil, upTo), &cn.ackOptions)
	}
}

// ticksPerProbe is how many ticks pass before the hub is asked again what it has taken and
// heard: a second, for receivers that are slow may take minutes.
const ticksPerProbe = int(time.Second / ackDelay)

// tick does what has had time: it tells what was received, and asks what the hub has
// taken and heard if it does not say so by itself. It reports whether there is more to do.
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

// probeTimer is about something that the hub has yet to say.
type probeTimer struct {
	progress  uint64 // of what it says
	idleTicks int    // for how many ticks there was none
}

// shouldProbe reports at each tick whether the hub is to be asked.
func (p *probeTimer) shouldProbe(outstanding bool, progress uint64) bool {
	if !outstanding || p.progress != progress {
		p.progress, p.idleTicks = progress, 0
		return false
	}
	p.idleTicks++
	return p.idleTicks%ticksPerProbe == 1
}

// handleError tells the one who sent a message that the hub does not take it.
func (c *Client) handleError(e *wire.Error) {
	switch {
	case e.Code == wire.ErrorWatchers:
		c.presence.failWatchers(fmt.Errorf("%w: %s", ErrTooManyWatchers, e.Text))
	case e.Code == wire.ErrorRefused && e.Seq == 0:
		c.presence.failWatchers(fmt.Errorf("%w: %s", ErrWatchForbidden, e.Text))
	}
	if e.Seq == 0 {
		return // it was no message, and whoever asked for something else would not know
	}
	err := &RefusedError{Seq: e.Seq, Code: e.Code, Reason: string(e.Text)}
	if waiter := c.sendQueue.dropRefused(e.Seq); waiter != nil {
		waiter.onReport(nil, err)
		return
	}
	c.emit(Event{Kind: EventRefused, Err: err})
}
