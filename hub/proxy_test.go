package hub_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/wire"
)

// trustedNets is the network of the load balancers in tests. untrustedNets is a network from
// which no test connects.
var (
	trustedNets   = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	untrustedNets = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
)

// logLines collects the log lines of a hub. It is safe for concurrent use.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// contains reports whether one line contains all parts.
func (l *logLines) contains(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		matches := true
		for _, part := range parts {
			matches = matches && strings.Contains(line, part)
		}
		if matches {
			return true
		}
	}
	return false
}

// startProxied serves a hub behind load balancers in the trusted networks, over TLS if secure
// is not nil.
func startProxied(t testing.TB, config hub.Config, trusted []netip.Prefix, secure *tls.Config) (*testHub, *logLines) {
	t.Helper()
	log := new(logLines)
	config.Logger = slog.New(slog.NewTextHandler(log, nil))
	h, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := serveOn(t, h, config, func(ln net.Listener) net.Listener {
		ln = h.NewProxyListener(ln, trusted)
		if secure != nil {
			ln = hub.NewTLSListener(ln, secure)
		}
		return ln
	}(listen(t)))
	return server, log
}

// proxyHeader returns the header that a load balancer sends first, in version 1 or 2 of the
// PROXY protocol, for a client with this address.
func proxyHeader(version int, client string) []byte {
	if version == 1 {
		at := netip.MustParseAddrPort(client)
		return fmt.Appendf(nil, "PROXY TCP4 %s 192.0.2.1 %d 9999\r\n", at.Addr(), at.Port())
	}
	at := netip.MustParseAddrPort(client)
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), at.Addr().AsSlice()...)
	return append(b, 192, 0, 2, 1, byte(at.Port()>>8), byte(at.Port()), 0x27, 0x0f)
}

// TestNewProxyListener_SetsClientAddress checks the address of a client wherever a hub shows
// it. The first frame arrives together with the header, and no byte of the frame may be lost.
func TestNewProxyListener_SetsClientAddress(t *testing.T) {
	for version := 1; version <= 2; version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			var seen sync.Map
			h, log := startProxied(t, hub.Config{MaxPerAddress: 1, Authenticate: func(req hub.AuthRequest) (*hub.Permissions, error) {
				seen.Store(req.Address.String(), true)
				return &hub.Permissions{}, nil
			}}, trustedNets, nil)
			for i, from := range []string{"198.51.100.7:40000", "198.51.100.8:40000"} {
				c := h.connect(t)
				c.send(append(proxyHeader(version, from), wire.AppendIdentityRequest(nil)...))
				c.id = c.readIdentity()
				if got := h.clientInfo(t, c.id).Address.String(); got != from {
					t.Errorf("client %d has the address %s, want %s", i, got, from)
				}
				if _, ok := seen.Load(from); !ok || !log.contains("client connected", "address="+from) {
					t.Errorf("%s is not passed to Config.Authenticate, or not logged", from)
				}
				c.relay(pattern(300<<10, 1), c.id)
				c.expectRelay(pattern(300<<10, 1))
			}
			again := h.connect(t)
			again.send(proxyHeader(version, "198.51.100.7:40001"))
			again.expectEOF()
			if n := h.Stats().Rejected[hub.RejectAddress]; n != 1 {
				t.Errorf("%d rejected as too many from one address, want 1", n)
			}
		})
	}
}

// TestNewProxyListener_UnderTLS sends the header before the TLS handshake.
func TestNewProxyListener_UnderTLS(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	h, _ := startProxied(t, hub.Config{}, trustedNets, &tls.Config{
		Certificates: []tls.Certificate{authority.IssueLocal().TLS(t)}, NextProtos: []string{wire.ALPN},
	})
	nc, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write(proxyHeader(2, "198.51.100.7:40000")); err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(nc, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", NextProtos: []string{wire.ALPN}})
	c := newClientV1(t, secure)
	c.send(wire.AppendIdentityRequest(nil))
	c.id = c.readIdentity()
	if got := h.clientInfo(t, c.id).Address.String(); got != "198.51.100.7:40000" {
		t.Errorf("the client has the address %s", got)
	}
	c.relay(pattern(300<<10, 1), c.id)
	c.expectRelay(pattern(300<<10, 1))
}

// TestNewProxyListener_MissingHeader_TimesOut has many connections that send nothing or a part
// of a header. Meanwhile another connection is accepted. The hub closes the connections without
// a header after the handshake timeout.
func TestNewProxyListener_MissingHeader_TimesOut(t *testing.T) {
	t.Parallel() // it mostly waits
	h, log := startProxied(t, hub.Config{HandshakeTimeout: 2 * time.Second}, trustedNets, nil)
	header := proxyHeader(1, "198.51.100.7:40000")
	var waiting []*clientV1
	for i := range 20 {
		c := h.connect(t)
		c.send(header[:i])
		waiting = append(waiting, c)
	}
	good := h.connect(t)
	good.send(append(header, wire.AppendIdentityRequest(nil)...))
	good.readIdentity()
	for _, c := range waiting {
		c.expectEOF()
	}
	if n := h.Stats().Rejected[hub.RejectHeader]; n != 20 {
		t.Errorf("%d rejected without a header, want 20", n)
	}
	if !log.contains("connection refused", "no PROXY header", "address=127.0.0.1:") {
		t.Error("nothing is logged")
	}
	good.fence()

	plain := h.connect(t)
	plain.send(wire.AppendIdentityRequest(nil))
	plain.expectEOF() // without waiting for the timeout
	h.connect(t).Close()
	good.fence()
	if n := h.Stats().Rejected[hub.RejectHeader]; n != 21 {
		t.Errorf("%d rejected without a header, want 21: a health check does not count", n)
	}
}

// TestNewProxyListener_Shutdown_DoesNotWaitForHeader shuts down while connections have not
// sent their header.
func TestNewProxyListener_Shutdown_DoesNotWaitForHeader(t *testing.T) {
	h, _ := startProxied(t, hub.Config{HandshakeTimeout: time.Hour}, trustedNets, nil)
	var waiting []*clientV1
	for range 10 {
		c := h.connect(t)
		c.send([]byte("PROXY"))
		waiting = append(waiting, c)
	}
	if took, err := h.shutdownTimed(t, testTimeout); err != nil || took > promptTimeout {
		t.Errorf("Shutdown took %v: %v", took, err)
	}
	for _, c := range waiting {
		c.expectEOF()
	}
}

// TestNewProxyListener_MaxClients_CountsConnsWithoutHeader checks that connections without a
// header count for MaxClients.
func TestNewProxyListener_MaxClients_CountsConnsWithoutHeader(t *testing.T) {
	h, _ := startProxied(t, hub.Config{MaxClients: 3, HandshakeTimeout: time.Hour}, trustedNets, nil)
	for range 5 {
		h.connect(t)
	}
	eventually(t, "two are rejected", func() bool { return h.Stats().Rejected[hub.RejectFull] == 2 })
}

// TestConn_UntrustedProxyHeader_IsLogged begins connections with a PROXY header from an
// address that is not trusted. The hub does not read the header as such and logs a hint.
func TestConn_UntrustedProxyHeader_IsLogged(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	serverTLS := &tls.Config{Certificates: []tls.Certificate{authority.IssueLocal().TLS(t)}}
	for name, secure := range map[string]*tls.Config{"plain": nil, "TLS": serverTLS} {
		for version := 1; version <= 2; version++ {
			t.Run(fmt.Sprint(name, " ", version), func(t *testing.T) {
				h, log := startProxied(t, hub.Config{}, untrustedNets, secure)
				c := h.connect(t)
				c.send(append(proxyHeader(version, "198.51.100.7:40000"), wire.AppendIdentityRequest(nil)...))
				if _, err := c.readToEnd(); err != nil && errors.Is(err, io.ErrUnexpectedEOF) {
					t.Error(err)
				}
				eventually(t, "it is logged", func() bool {
					return log.contains("unexpected PROXY header", "-proxy-protocol", "address=127.0.0.1:")
				})
				if log.contains("198.51.100.7") {
					t.Error("the header was believed")
				}
			})
		}
	}
	t.Run("other bytes", func(t *testing.T) {
		h, log := startProxied(t, hub.Config{}, untrustedNets, nil)
		h.connect(t).send([]byte("GET / HTTP/1.1\r\n\r\n"))
		h.waitDisconnected(t, hub.CloseTooLong, 1)
		if log.contains("PROXY") {
			t.Error("other bytes were logged as a PROXY header")
		}
	})
}
