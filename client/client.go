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
// got it; processed, which the application says by Message.Done. Who left before is
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
	options Options
	anyBody bool // Options.MaxBody was left to the hub
	life    context.Context
	end     context.CancelFunc // of life

	inbox    inbox
	outgoing outgoing // version 2
	verdicts verdicts // likewise
	watching watching // likewise
	soon     soon     // likewise
	counts   counts
	bodyMost atomic.Int64 // bytes
	version  atomic.Int32 // of the protocol; 0: not settled yet

	// Owned by the reading goroutine.
	secret   string // to come back with; "": it cannot
	epoch    uint64 // of the hub
	attempts int    // to come back, since it was connected
	welcome  bool   // has come on the connection on which HELLO was said last
	over     over   // what it was sent away for, since then
	fresh    string // a token to show on the next connection; "": it is asked for

	// Owned by tick, which runs once at a time.
	taking  doubt // whether the hub has taken what was sent
	hearing doubt // whether it has heard the verdicts

	done    <-chan struct{} // closed when the client is over
	stopped chan struct{}   // closed when the reading goroutine has ended
	closing chan struct{}   // closed by Close
	closed  chan struct{}   // closed when Close has done all
	close   sync.Once

	abandoned atomic.Bool // Close has not waited for a function of the application: no other is called

	mu      sync.Mutex
	id      uint64
	link    *link         // nil: there is no connection
	changed chan struct{} // closed and made anew when link changes
	leaving bool          // BYE has been said
	err     error         // why it is over; set before done is closed
}

// Dial connects to the hub at addr and returns when the hub has told the client's id. addr is
// "host:port", or with TLS "hubs://host:port"; the port may be left out (9999): see ParseAddress.
// With Options.Dial it is anything that has no scheme, and may be empty. Dial gives up when ctx ends; only later does the client come back
// by itself. The client has one goroutine that reads, and at times one that writes;
// both end with Close.
func Dial(ctx context.Context, addr string, options *Options) (*Client, error) {
	all, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if all.Dial, err = all.target(addr); err != nil {
		return nil, err
	}
	nc, err := all.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return newClient(ctx, nc, all, options.anyBody())
}

// New is Dial for a connection that there is already. The connection belongs to
// the client, and is closed when New fails. When it is lost, the client ends
// unless Options.Dial makes another.
func New(ctx context.Context, nc net.Conn, options *Options) (*Client, error) {
	all, err := options.withDefaults()
	if err != nil {
		if nc != nil {
			nc.Close()
		}
		return nil, err
	}
	return newClient(ctx, nc, all, options.anyBody())
}

// newClient is New with options that are complete.
func newClient(ctx context.Context, nc net.Conn, all Options, anyBody bool) (*Client, error) {
	if nc == nil {
		return nil, errNoConn
	}
	c := &Client{
		options: all,
		anyBody: anyBody,
		stopped: make(chan struct{}),
		closing: make(chan struct{}),
		closed:  make(chan struct{}),
		changed: make(chan struct{}),
	}
	c.life, c.end = context.WithCancel(context.Background())
	c.done = c.life.Done()
	c.inbox.init(all.MaxUnread, c.tellReceived, c.soon.arm)
	c.outgoing.init(all.MaxQueued, all.Resend)
	c.watching.init()
	c.soon.run = c.tick
	c.bodyMost.Store(int64(all.MaxBody))
	l := newLink(c, nc)
	c.link = l
	identity, err := c.greet(ctx, l)
	if err != nil {
		c.end()
		l.conn.Close()
		l.conn.Drop()
		l.conn.Wait()
		return nil, err
	}
	go c.run(l) // ends with the client; Close waits for it
	if err := c.await(ctx, l, identity); err != nil {
		c.abortDial(l)
		c.fail(err)
		select {
		case <-c.stopped:
		case <-time.After(callbackGrace):
			c.abandoned.Store(true)
		}
		if err == ErrHubClosed && all.Version == 1 { // which has no words for why
			err = fmt.Errorf("%w at once: it may ask for a token, which version 1 cannot show, want TLS, or be full", err)
		}
		return nil, fmt.Errorf("client: learn the id from %s: %w", nc.RemoteAddr(), err)
	}
	return c, nil
}

// abortDial says BYE on a connection that is not waited for any longer: WELCOME may have come in
// this moment and be confirmed, and then the hub would expect the client back.
func (c *Client) abortDial(l *link) {
	if c.options.Version == 1 {
		return
	}
	enough := make(chan struct{})
	defer time.AfterFunc(abortTimeout, func() { close(enough) }).Stop()
	l.say(wire.AppendBye(nil), &last)
	l.conn.Drain(enough)
}

// await returns when the hub has told who the client is.
func (c *Client) await(ctx context.Context, l *link, identity <-chan uint64) error {
	select {
	case <-l.greeted:
		return nil
	case id, ok := <-identity:
		select {
		case <-l.greeted: // before
			return nil
		default:
		}
		switch {
		case !ok:
			return c.gone()
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

func (c *Client) newer() bool { return c.version.Load() == wire.Version2 }

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

// current returns the connection that there is, or nil.
func (c *Client) current() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

// connected returns the connection. If there is none, it waits for it.
func (c *Client) connected(ctx context.Context) (*link, error) {
	for {
		if err := c.open(ctx); err != nil {
			return nil, err
		}
		c.mu.Lock()
		l, changed, err := c.link, c.changed, c.err
		c.mu.Unlock()
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-c.closing:
		case <-c.done:
		}
	}
}

// attach makes l the connection; nil: there is none.
func (c *Client) attach(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = l
	close(c.changed)
	c.changed = make(chan struct{})
}

// detach says that l is the connection no more. In version 1 there will be no other.
func (c *Client) detach(l *link) {
	if c.newer() && c.current() == l {
		c.attach(nil)
	}
	c.outgoing.detach()
	c.verdicts.detach()
	c.watching.detach()
}

// lost returns nil when the client will come back from the loss of l, or has, and
// otherwise why it does not.
func (c *Client) lost(l *link) error {
	if c.returns() {
		select {
		case <-l.over: // then connected knows
			return nil
		case <-c.done:
		}
	}
	return c.gone()
}

// returns reports whether the client comes back when its connection is lost.
func (c *Client) returns() bool {
	return c.newer() && c.options.Dial != nil && !c.options.NoReconnect
}

// gone returns why nothing can be sent any more.
func (c *Client) gone() error {
	if err := c.Err(); err != nil {
		return err
	}
	select {
	case <-c.closing: // Close is about it
		return ErrClosed
	default:
		return ErrLost
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
	l := c.link
	c.mu.Unlock()
	if l != nil {
		l.conn.Close()
		l.pending.close(err)
	}
	c.soon.end()
	c.inbox.close(err)
	c.watching.close(err)
	for _, one := range c.outgoing.close(err) {
		one.done(nil, err)
	}
	c.end() // at the end: who sees it can send nothing more
}

// tellReceived tells the hub what was received.
func (c *Client) tellReceived() {
	upTo, l := c.inbox.claim()
	if l != nil {
		l.say(wire.AppendTaken(nil, upTo), &l.taken)
	}
}

// askEvery is how many ticks pass before the hub is asked again what it has taken and
// heard: a second, for receivers that are slow may take minutes.
const askEvery = int(time.Second / soonest)

// tick does what has had time: it tells what was received, and asks what the hub has
// taken and heard if it does not say so by itself. It reports whether there is more to do.
func (c *Client) tick() bool {
	due, more := c.inbox.tick()
	if due {
		c.tellReceived()
	}
	sent, taken := c.outgoing.unsure()
	said, heard := c.verdicts.unsure()
	ask := c.taking.asks(sent, taken)
	ask = c.hearing.asks(said, heard) || ask
	if l := c.current(); l != nil && ask {
		l.probe()
	}
	return more || sent || said
}

// doubt is about something that the hub has yet to say.
type doubt struct {
	progress uint64 // of what it says
	waits    int    // for how many ticks there was none
}

// asks reports at each tick whether the hub is to be asked.
func (d *doubt) asks(open bool, progress uint64) bool {
	if !open || d.progress != progress {
		d.progress, d.waits = progress, 0
		return false
	}
	d.waits++
	return d.waits%askEvery == 1
}

// refused tells the one who sent a message that the hub does not take it.
func (c *Client) refused(e *wire.Error) {
	switch {
	case e.Code == wire.ErrorWatchers:
		c.watching.refuse(fmt.Errorf("%w: %s", ErrTooManyWatchers, e.Text))
	case e.Code == wire.ErrorRefused && e.Seq == 0:
		c.watching.refuse(fmt.Errorf("%w: %s", ErrMayNotWatch, e.Text))
	}
	if e.Seq == 0 {
		return // it was no message, and whoever asked for something else would not know
	}
	err := &RefusedError{Seq: e.Seq, Code: e.Code, Reason: string(e.Text)}
	if one := c.outgoing.refused(e.Seq); one != nil {
		one.done(nil, err)
		return
	}
	c.event(Event{Kind: EventRefused, Err: err})
}
