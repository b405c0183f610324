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
//				return // the hub went away, or c was closed
//			}
//			fmt.Printf("%s\n", m.Body)
//		}
//	}()
//
//	others, err := c.List(ctx)
//	…
//	err = c.Send(ctx, others, []byte("hello"))
//
// Messages from one sender arrive in the order in which it sent them. They are
// received by Receive, by Messages or, with the least work, by Options.OnMessage.
// Those that nobody receives yet wait in a bounded space; when that is full the client
// stops reading, TCP slows the hub down, and the hub slows down those who send
// here, and in the end disconnects a client that never receives.
//
// The package knows the protocol (wire) and the connection (internal/socket). It
// does not reconnect and knows nothing of the hub's insides.
package client

import (
	"context"
	"fmt"
	"math"
	"net"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// Options change how a client behaves. The zero value of each field means its
// default.
type Options struct {
	// MaxBody is the largest body that is sent or received, in bytes. It should be
	// what the hub allows. Default: 1 MiB.
	MaxBody int

	// MaxUnread is how many bytes of messages may wait to be received before the
	// client stops reading, plus one read. Default: 1 MiB.
	MaxUnread int

	// ReadBuffer is how many bytes the kernel may hold for the client beyond that, as
	// far as the system allows. Hundreds of busy clients on one machine are better
	// off with 1 MiB than with the tens that the kernel may go to.
	// Default: the kernel decides.
	ReadBuffer int

	// MaxQueued is how many bytes may wait to be sent before Send waits, plus one
	// message. Default: 256 KiB.
	MaxQueued int

	// MaxList is how many ids a list may have. Default: 1,000,000, which is 8 MB.
	MaxList int

	// FrameTimeout is how long the rest of a frame may take to arrive.
	// Default: 30 s.
	FrameTimeout time.Duration

	// CloseTimeout is how long Close waits for what was sent to leave.
	// Default: 5 s.
	CloseTimeout time.Duration

	// OnMessage gets the messages if it is set; Receive and Messages then wait for
	// the end of the connection. It is called by the goroutine that reads, for one
	// message after the other in the order in which they came, perhaps before Dial
	// has returned, and no more when Close has. Body is lent: it is valid until
	// OnMessage returns.
	//
	// This is the shortest way for a message. In return nothing is read meanwhile:
	// OnMessage must not wait for List, and must not call Close. A Send in it may have
	// to wait for the hub, and a hub that waits for this client to read waits in vain.
	OnMessage func(Message)
}

// withDefaults returns the options with every field set.
func (o *Options) withDefaults() (Options, error) {
	var all Options
	if o != nil {
		all = *o
	}
	for _, field := range []struct {
		name  string
		value *int
		by    int
		most  int
	}{
		{"MaxBody", &all.MaxBody, wire.DefaultMaxBody, wire.BodyMost},
		{"MaxUnread", &all.MaxUnread, 1 << 20, math.MaxInt},
		{"MaxQueued", &all.MaxQueued, 256 << 10, math.MaxInt},
		{"MaxList", &all.MaxList, 1_000_000, wire.BodyMost / wire.IDSize},
	} {
		if *field.value == 0 {
			*field.value = field.by
		}
		if *field.value < 1 || *field.value > field.most {
			return all, fmt.Errorf("client: %s is %d, must be from 1 to %d", field.name, *field.value, field.most)
		}
	}
	if all.ReadBuffer < 0 || all.ReadBuffer > wire.BodyMost {
		return all, fmt.Errorf("client: ReadBuffer is %d, must be from 1 to %d", all.ReadBuffer, wire.BodyMost)
	}
	for _, field := range []struct {
		name  string
		value *time.Duration
		by    time.Duration
	}{
		{"FrameTimeout", &all.FrameTimeout, 30 * time.Second},
		{"CloseTimeout", &all.CloseTimeout, 5 * time.Second},
	} {
		if *field.value == 0 {
			*field.value = field.by
		}
		if *field.value < 0 {
			return all, fmt.Errorf("client: %s is %v, must not be negative", field.name, *field.value)
		}
	}
	return all, nil
}

// unsentBytes is how much of what was sent may wait in the kernel before MaxQueued
// counts the rest. A kernel that is left alone takes 4 MB for each client, and gets
// short of memory with hundreds of them (docs/decisions/0002).
const unsentBytes = 256 << 10

// quiet is how long nothing must have been sent for Send to write by itself. Hot on
// the heels of a Send there may come many, which had better leave together: a place
// in line takes 0.2 µs, and a write about as long as quiet.
const quiet = 10 * time.Microsecond

// Client is a connection to a hub. All methods may be called concurrently.
type Client struct {
	// Static after construction.
	options Options
	conn    *socket.Conn
	id      uint64

	inbox   inbox
	pending pending
	counts  counts

	done    chan struct{} // closed when the connection is over
	stopped chan struct{} // closed when the reading goroutine has ended
	mu      sync.Mutex
	err     error         // why; set before done is closed
	closing chan struct{} // closed by Close
	close   sync.Once
}

// Dial connects to the hub at addr ("host:port") and returns when the hub has
// told the client's id. It gives up when ctx ends. The client has one goroutine
// that reads, and at times one that writes; both end with the connection.
func Dial(ctx context.Context, addr string, options *Options) (*Client, error) {
	if _, err := options.withDefaults(); err != nil {
		return nil, err
	}
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return New(ctx, nc, options)
}

// New is Dial for a connection that there is already. The connection belongs to
// the client, and is closed when New fails.
func New(ctx context.Context, nc net.Conn, options *Options) (*Client, error) {
	all, err := options.withDefaults()
	if err != nil {
		nc.Close()
		return nil, err
	}
	c := &Client{
		options: all,
		done:    make(chan struct{}),
		stopped: make(chan struct{}),
		closing: make(chan struct{}),
	}
	c.inbox.init(all.MaxUnread)
	if tcp, ok := nc.(*net.TCPConn); ok && all.ReadBuffer > 0 {
		_ = tcp.SetReadBuffer(all.ReadBuffer) // fails only on a closed connection
	}
	c.conn = socket.New(nc, &socket.Config{
		MaxLength:    max(1+all.MaxBody, 1+all.MaxList*wire.IDSize),
		FrameTimeout: all.FrameTimeout,
		OutboxBytes:  all.MaxQueued,
		UnsentBytes:  unsentBytes,
		Quiet:        quiet,
		Whole:        true,
		Keep:         all.OnMessage == nil,
	}, owner{c}, c.done)
	go c.read() // ends with the connection; Close waits for it
	c.id, err = c.askIdentity(ctx)
	if err != nil {
		c.fail(err)
		<-c.stopped
		c.conn.Wait()
		return nil, fmt.Errorf("client: learn the id from %s: %w", nc.RemoteAddr(), err)
	}
	return c, nil
}

// ID returns the id by which others reach this client. It never changes.
func (c *Client) ID() uint64 { return c.id }

// Done returns a channel that is closed when the connection is over.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the connection is over, and nil while it is not. After Close
// it is ErrClosed, unless the connection was over before.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close sends what Send has taken, for at most Options.CloseTimeout, ends the
// connection and waits for the client's goroutines. Blocked calls return
// ErrClosed. It returns an error when something that Send has taken could not be
// sent. It may be called more than once.
func (c *Client) Close() error {
	c.close.Do(func() {
		close(c.closing)
		c.inbox.discard(ErrClosed)
	})
	c.leave()
	c.fail(ErrClosed)
	<-c.done // somebody else may be about it
	<-c.stopped
	c.conn.Wait()
	return c.unsent()
}

// leave empties the outbox, tells the hub that nothing more will come, and gives
// it the time to take it: closing while something of the hub's is unread would
// reset the connection, and what is still under way could be lost.
func (c *Client) leave() {
	patience := time.AfterFunc(c.options.CloseTimeout, func() { c.fail(ErrClosed) })
	defer patience.Stop()
	if c.conn.Drain(c.done) && c.conn.CloseWrite() == nil {
		<-c.stopped // the reading goroutine discards what comes, until the hub's end
	}
}

// owner is the client as its connection knows it.
type owner struct{ c *Client }

func (owner) Account() *body.Account { return nil }

func (owner) Short() bool { return false }

func (o owner) Sent(t socket.Tally) { o.c.counts.wrote(t) }

func (o owner) Lost(t socket.Tally) { o.c.counts.lose(t) }

// Failed ends the sending at once, and the reading when it has taken what the hub
// sent before the connection broke.
func (o owner) Failed(err error) {
	o.c.pending.close(fmt.Errorf("%w: %w", ErrLost, err))
	o.c.conn.Finish()
}

// gone returns why nothing can be sent any more.
func (c *Client) gone() error {
	if err := c.Err(); err != nil {
		return err
	}
	return ErrLost
}

// fail ends the connection. The first error counts.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	c.mu.Unlock()
	c.conn.Close()
	c.inbox.close(err)
	c.pending.close(err)
	close(c.done) // at the end: who sees it can send nothing more
}
