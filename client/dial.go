package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Dial connects to the hub at addr and returns when the hub has told the client its id.
//
// addr is "host:port", or "hubs://host:port" for TLS. The port is optional (9999 by default):
// see ParseAddress. With Options.Dial, addr can be any text without a scheme, also "".
//
// Dial makes one attempt, which ends with ctx. Reconnecting starts after Dial has returned.
//
// Without Options.Dial, addr can be several addresses, separated by commas: "a:9999,b:9999", see
// ParseAddresses. They should be those of the hubs of one cluster. Each client puts them in a
// random order of its own, unless Options.InOrder is set, so that clients spread over the hubs.
// Dial makes one attempt at each address in this order, until one succeeds. Dial does not wait
// between two attempts. Each ends after 10 s at the latest, or after an equal share of the time
// until the deadline of ctx if that is shorter. Whatever makes an attempt fail, also a GOAWAY, the
// next one follows. The error is a *DialError, which has the error of each address. Dial ends
// earlier if ctx ends, or if Options.GetToken fails.
//
// A client with several addresses reconnects in rounds. A round has one attempt at each address,
// in the order of the client, from the address on where its last connection was: the session is
// at that hub. After GOAWAY shutdown or busy, the rounds begin with the next address, and that of
// this hub is the last. The client waits as with one address, but only before a round, and its
// limits grow with each round: the wait is random, at most 200 ms before the first round, twice as
// much before each further one, and at most 20 s. An attempt ends after 3 s in the first round, 6 s
// in the second, and then 10 s. If a GOAWAY asks for a delay, the next round begins after it. If
// Options.GetToken fails, the round ends. If the new hub does not have the session, the client gets
// a new one: see EventNewID. An answer to an attempt that ends a client with one address, as a
// GOAWAY without reconnect does, ends this one when all addresses have answered so in succession.
//
// The client has one goroutine that reads, and at times others that write, run timers and renew
// the token. All of them end with Close.
func Dial(ctx context.Context, addr string, options *Options) (*Client, error) {
	resolved, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	endpoints, err := newEndpoints(addr, &resolved)
	if err != nil {
		return nil, err
	}
	d := dialer{options: resolved, maxBodyUnset: options.maxBodyUnset(), endpoints: endpoints}
	if len(endpoints) == 1 {
		return d.dial(ctx, 0)
	}
	return d.dialAny(ctx)
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
	d := dialer{options: resolved, maxBodyUnset: options.maxBodyUnset()}
	if resolved.Dial != nil {
		d.endpoints = []endpoint{{dial: resolved.Dial}}
	}
	return d.newClient(ctx, nc, 0)
}

// dialer makes the first connection of a client.
type dialer struct {
	options      Options // with defaults
	maxBodyUnset bool
	endpoints    []endpoint
}

// dialAny makes one attempt at each endpoint, until one succeeds.
func (d *dialer) dialAny(ctx context.Context) (*Client, error) {
	var failed DialError
	for i, e := range d.endpoints {
		attempt, cancel := limitAttempt(ctx, len(d.endpoints)-i)
		c, err := d.dial(attempt, i)
		cancel()
		if err == nil {
			return c, nil
		}
		failed.Attempts = append(failed.Attempts, &AddressError{Addr: e.addr, Err: err})
		// After ErrCallbackBlocked, the next attempt could call the same callback concurrently.
		if ctx.Err() != nil || errors.As(err, new(*tokenError)) || errors.Is(err, ErrCallbackBlocked) {
			break
		}
	}
	return nil, &failed
}

// limitAttempt returns the context for one attempt of Dial. left is the number of attempts that
// are still possible, including this one.
func limitAttempt(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	timeout := maxDialTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/time.Duration(left))
	}
	return context.WithTimeout(ctx, timeout)
}

// dial connects to one endpoint.
func (d *dialer) dial(ctx context.Context, endpoint int) (*Client, error) {
	nc, err := d.endpoints[endpoint].dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return d.newClient(ctx, nc, endpoint)
}

// newClient returns a client on nc, a connection to that endpoint. It closes nc when it fails.
func (d *dialer) newClient(ctx context.Context, nc net.Conn, endpoint int) (*Client, error) {
	if nc == nil {
		return nil, errNilConn
	}
	c := &Client{closed: make(chan struct{})}
	c.session.init(d.options, d.maxBodyUnset, d.endpoints)
	c.session.connectedTo.Store(int64(endpoint))
	c.reconnector.init(&c.session)
	r := newReader(&c.session, nc, endpoint)
	c.session.conns.set(r.conn)
	identity, err := c.reconnector.sendHello(ctx, r)
	if err != nil {
		c.session.life.cancel()
		r.conn.close(err)
		return nil, err
	}
	go c.reconnector.run(r) // ends with the client; Close waits for it
	if err := c.session.awaitID(ctx, r.welcomeDone, identity); err != nil {
		ended := c.abort(r.conn, err)
		if err == ErrHubClosed && d.options.Version == 1 { // version 1 has no frame that says why
			err = fmt.Errorf("%w during the handshake: it may require a token, which version 1 cannot send, require TLS, or be full", err)
		}
		if !ended {
			err = fmt.Errorf("%w; %w", err, ErrCallbackBlocked)
		}
		return nil, fmt.Errorf("client: handshake with %s: %w", nc.RemoteAddr(), err)
	}
	return c, nil
}
