package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// dialing is how a client makes its connections.
type dialing func(ctx context.Context) (net.Conn, error)

// target returns how to connect to addr, which Dial documents.
func (o *Options) target(addr string) (dialing, error) {
	scheme, rest, named := strings.Cut(addr, "://")
	if !named {
		rest = addr
	}
	config := o.TLS
	switch {
	case !named, scheme == "hub" && config == nil:
	case scheme == "hub":
		return nil, fmt.Errorf("client: %s is a hub without TLS, and Options.TLS is set: hubs://%s has it", addr, rest)
	case scheme == "hubs" && config == nil:
		config = new(tls.Config)
	case scheme != "hubs":
		return nil, fmt.Errorf("client: address %q: hub:// and hubs:// are known, %s:// is not", addr, scheme)
	}
	dial := dialing(o.Dial)
	if dial == nil {
		if named && (!strings.Contains(rest, ":") || strings.HasSuffix(rest, "]")) {
			rest = fmt.Sprintf("%s:%d", rest, wire.DefaultPort)
		}
		dial = func(ctx context.Context) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", rest)
		}
	}
	if config == nil {
		return dial, nil
	}
	config = config.Clone()
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(rest)
		if err != nil {
			host = rest
		}
		config.ServerName = host
	}
	if len(config.NextProtos) == 0 {
		config.NextProtos = []string{wire.ALPN}
	}
	return dial.over(config), nil
}

// over returns connections that are TLS.
func (dial dialing) over(config *tls.Config) dialing {
	return func(ctx context.Context) (net.Conn, error) {
		nc, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		secure := tls.Client(socket.Line(nc), config)
		if err := secure.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, fmt.Errorf("%w with %s: %w", ErrTLS, config.ServerName, err)
		}
		return secure, nil
	}
}
