package client

import (
	"context"
	"fmt"
	"net"
)

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
	if resolved.Dial, err = newDialFunc(addr, resolved.Dial, resolved.TLS); err != nil {
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
	c := &Client{closed: make(chan struct{})}
	c.session.init(options, maxBodyUnset)
	c.reconnector = reconnector{session: &c.session, done: make(chan struct{})}
	r := newReader(&c.session, nc)
	c.session.conns.set(r.conn)
	identity, err := c.reconnector.sendHello(ctx, r)
	if err != nil {
		c.session.life.cancel()
		r.conn.close(err)
		return nil, err
	}
	go c.reconnector.run(r) // ends with the client; Close waits for it
	if err := c.session.awaitID(ctx, r.welcomeDone, identity); err != nil {
		c.abort(r.conn, err)
		if err == ErrHubClosed && options.Version == 1 { // version 1 has no frame that says why
			err = fmt.Errorf("%w during the handshake: it may require a token, which version 1 cannot send, require TLS, or be full", err)
		}
		return nil, fmt.Errorf("client: handshake with %s: %w", nc.RemoteAddr(), err)
	}
	return c, nil
}
