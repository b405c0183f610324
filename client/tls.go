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

// dialFunc dials one connection.
type dialFunc func(ctx context.Context) (net.Conn, error)

// newDialFunc returns the dialFunc for addr. dial, if not nil, makes the connections; config, if
// not nil, makes them TLS, and so does the scheme of addr.
func newDialFunc(addr string, dial dialFunc, config *tls.Config) (dialFunc, error) {
	if dial != nil && !strings.Contains(addr, "://") { // dial can have addresses of its own
		return dial.withTLS(config, hostOf(addr)), nil
	}
	a, err := ParseAddress(addr)
	switch {
	case err != nil:
		return nil, fmt.Errorf("client: %w", err)
	case a.TLS() && config == nil:
		config = new(tls.Config)
	case a.Scheme == SchemePlain && config != nil:
		a.Scheme = SchemeTLS
		return nil, fmt.Errorf("client: Options.TLS is set, but %s is an address without TLS: use %s", addr, a)
	}
	if dial == nil {
		dial = func(ctx context.Context) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", a.HostPort())
		}
	}
	return dial.withTLS(config, a.Host), nil
}

// hostOf returns the host of an address that need not be one of ParseAddress.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// withTLS returns dial, wrapped in TLS unless config is nil. host is the default of ServerName.
func (dial dialFunc) withTLS(config *tls.Config, host string) dialFunc {
	if config == nil {
		return dial
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName = host
	}
	config.DynamicRecordSizingDisabled = true // a part of a message is of no use
	if len(config.NextProtos) == 0 {
		config.NextProtos = []string{wire.ALPN}
	}
	return dial.wrapTLS(config)
}

// wrapTLS returns a dialFunc that does a TLS handshake on each connection of dial.
func (dial dialFunc) wrapTLS(config *tls.Config) dialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		nc, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		if nc == nil {
			return nil, errNilConn
		}
		tlsConn := tls.Client(socket.WrapForTLS(nc), config)
		if err := tlsConn.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, fmt.Errorf("%w with %s: %w", ErrTLS, config.ServerName, err)
		}
		return tlsConn, nil
	}
}
