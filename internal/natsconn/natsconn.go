// Package natsconn is a connection to a NATS server for the frames between hubs: it publishes them
// and receives them without an allocation. Without TLS, a large frame is copied only to the kernel
// and from it.
//
// It speaks the part of the NATS client protocol that frames need. It does not choose a server,
// does not connect again, and has no requests: nats.go does these on a connection of its own. On
// the path of a message between two hubs, it is at both ends of the way through NATS.
package natsconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is the error of a connection that Close has closed.
var ErrClosed = errors.New("the connection to NATS is closed")

// ErrStale is the error of a connection whose server does not answer pings.
var ErrStale = errors.New("the NATS server does not answer pings")

// ServerError is an error that the server has told (-ERR), in its words.
type ServerError struct{ Text string }

// Error implements error.
func (e *ServerError) Error() string { return "the NATS server says: " + e.Text }

// maxServerErrors is the maximum number of serverErrors: two for each of a few subjects.
const maxServerErrors = 8

// serverErrors are several errors, in one line.
type serverErrors []error

func (e serverErrors) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e serverErrors) Unwrap() []error { return e }

func (e *serverErrors) add(err *ServerError) {
	if len(*e) < maxServerErrors {
		*e = append(*e, err)
	}
}

// Config is the configuration of a connection. All fields without a default must be set.
type Config struct {
	// Name and Version describe the hub to operators of the server.
	Name, Version string

	// TLS is the configuration of TLS, with the name of the server. nil: a connection without TLS.
	TLS *tls.Config

	Auth Auth

	// Subjects are subscribed to. Open also checks that the hub may publish to them.
	Subjects []string

	// MaxPayload is the maximum size of a frame that is received, in bytes. Larger ones are
	// skipped.
	MaxPayload int

	// Handle is called for each frame that arrives, one at a time. It must not keep payload. While
	// it runs, nothing is read.
	Handle func(payload []byte)

	// OnError is called with each missing permission to publish that the server tells after Open,
	// by the goroutine that calls Handle. Any other error ends the connection.
	OnError func(*ServerError)

	// A write that takes longer than WriteTimeout closes the connection.
	WriteTimeout time.Duration

	// A ping is sent at each PingInterval. A server from which nothing comes after MaxPings of them
	// is lost.
	PingInterval time.Duration
	MaxPings     int
}

// Auth is what a hub shows to the server. Empty fields are not sent.
type Auth struct {
	User, Password, Token string
	JWT, NKey             string

	// Sign signs the nonce of the server; with JWT or NKey.
	Sign func(nonce []byte) ([]byte, error)
}

// Conn is a connection to a NATS server. It ends with the first error. All methods can be called
// concurrently.
type Conn struct {
	// Static after Open.
	config Config
	raw    net.Conn     // below TLS: it is closed without a message of TLS, which could block
	nc     net.Conn     // raw, or TLS over it
	tcp    *net.TCPConn // nc, if it can write several slices in one call; otherwise nil
	wait   sync.WaitGroup
	done   chan struct{} // closed when the connection has ended

	in        input         // owned by Open, then by read
	reads     atomic.Uint64 // incremented by read before and after each read: odd while it waits
	pongsOwed chan struct{} // capacity 1: the server waits for a PONG

	end sync.Once
	err error // why the connection has ended; static once done is closed

	// Guarded by mu, which is held while a write blocks.
	mu  sync.Mutex
	out output
}

// Open makes nc, which was just dialed, a connection to NATS. ctx limits only Open. If the hub may
// not subscribe or publish to a subject, or is not accepted, the error wraps a *ServerError for
// each. Open closes nc if it returns an error.
func Open(ctx context.Context, nc net.Conn, config Config) (*Conn, error) {
	c := &Conn{config: config, raw: nc, nc: nc, done: make(chan struct{}), pongsOwed: make(chan struct{}, 1)}
	c.in.init(countedReader{c}, config.MaxPayload)
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	err := c.handshake(ctx)
	if !stop() { // ctx has ended
		err = ctxError(ctx, err)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open the connection for frames: %w", err)
	}
	c.tcp, _ = c.nc.(*net.TCPConn)
	c.wait.Go(c.read)      // both end with the connection,
	c.wait.Go(c.keepAlive) // and Close waits for them
	return c, nil
}

// ctxError returns the error of ctx, which has ended, with err if the server has told that.
func ctxError(ctx context.Context, err error) error {
	if told := (*ServerError)(nil); errors.As(err, &told) {
		return fmt.Errorf("%w: %w", err, ctx.Err())
	}
	return ctx.Err()
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection has ended, and nil while it has not.
func (c *Conn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Close ends the connection. Afterwards, Handle and OnError are not called any more: they must not
// call Close.
func (c *Conn) Close() {
	c.fail(ErrClosed)
	c.wait.Wait()
}

// fail ends the connection. The first error counts.
func (c *Conn) fail(err error) {
	c.end.Do(func() {
		c.err = err
		close(c.done)
		c.raw.Close()
	})
}
