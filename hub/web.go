package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/internal/web"
	"github.com/sechlol/go-message-hub/wire"
)

// WebConfig configures a WebHandler. The zero value accepts clients that are no browsers, and web
// pages of the same origin.
type WebConfig struct {
	// AllowedOrigins are the origins of the web pages that can connect, besides those of the host
	// and port to which the request is addressed: https://example.com, https://*.example.com for
	// every host below example.com, or * for every origin. A client that sends no Origin is no
	// browser, and always accepted.
	AllowedOrigins []string

	// TokenCookie is the name of a cookie that holds the token of a client. It counts if HELLO
	// names no token, and only in a request with an Origin, whose page was permitted to connect.
	// It cannot be combined with the origin *. Empty: no cookie is read.
	TokenCookie string

	// TrustedProxies are the addresses of HTTP proxies before the hub. A request from one of them
	// comes from the last address of its header X-Forwarded-For, or Forwarded, that is not of a
	// trusted proxy. The hub uses that address in the log, for Config.MaxPerAddress and
	// ConnectRate, in ClientInfo and for Config.Authenticate. Headers of other peers are ignored.
	TrustedProxies []netip.Prefix
}

// Validate returns the error that NewWebHandler would return for the configuration.
func (c WebConfig) Validate() error {
	_, err := c.rules()
	return err
}

// rules returns the configuration as rules, or an error that names the field and its value.
func (c WebConfig) rules() (*web.Rules, error) {
	origins, err := web.ParseOrigins(c.AllowedOrigins)
	proxiesErr := checkNetworks(c.TrustedProxies)
	switch {
	case err != nil:
		return nil, fmt.Errorf("hub: AllowedOrigins: %w", err)
	case c.TokenCookie != "" && !isCookieName(c.TokenCookie):
		return nil, fmt.Errorf("hub: TokenCookie: %q is not the name of a cookie", c.TokenCookie)
	case c.TokenCookie != "" && origins.Any():
		return nil, errors.New("hub: TokenCookie with the origin *: every web page could use the tokens of its readers")
	case proxiesErr != nil:
		return nil, fmt.Errorf("hub: TrustedProxies: %w", proxiesErr)
	}
	return &web.Rules{
		Subprotocol: wire.Subprotocol, Origins: origins,
		TokenCookie: c.TokenCookie, TrustedProxies: slices.Clone(c.TrustedProxies),
	}, nil
}

// checkNetworks returns an error that names a network that would contain no address: addresses are
// compared in their IPv4 form if they have one.
func checkNetworks(networks []netip.Prefix) error {
	for _, p := range networks {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("%v is not an IPv4 or IPv6 network", p)
		}
	}
	return nil
}

// isCookieName reports whether name is a token of HTTP (RFC 9110).
func isCookieName(name string) bool {
	return (&http.Cookie{Name: name}).Valid() == nil
}

// WebHandler accepts WebSockets for a hub. Create one with NewWebHandler. All methods can be called
// concurrently.
//
// A WebSocket carries the frames of version 2 of the protocol, with the subprotocol
// wire.Subprotocol, and its client has the promises and the limits of a TCP client. The handler
// answers each other request with an error, and ends its connection. A request that exceeds a
// limit of the hub gets the status 503 instead of a WebSocket. A request with an Origin that is
// not permitted gets 403.
type WebHandler struct {
	hub   *Hub
	rules atomic.Pointer[web.Rules]
}

// NewWebHandler returns a handler for h, or an error that names what is wrong with config.
func NewWebHandler(h *Hub, config WebConfig) (*WebHandler, error) {
	wh := &WebHandler{hub: h}
	if err := wh.SetConfig(config); err != nil {
		return nil, err
	}
	return wh, nil
}

// SetConfig changes the configuration for all later requests. On an error it changes nothing.
func (wh *WebHandler) SetConfig(config WebConfig) error {
	rules, err := config.rules()
	if err != nil {
		return err
	}
	wh.rules.Store(rules)
	return nil
}

// Serve serves WebSockets at wire.WebPath of the connections of ln, and nothing else, until
// Hub.Shutdown is called or ctx ends. Its results are those of Hub.Serve, and like Hub.Serve it
// always closes ln.
//
// A connection has Config.HandshakeTimeout for its TLS handshake, and again for its request, whose
// head can have 8 KiB. It carries one request. When 1,000 connections have not sent their request,
// the next one replaces the oldest of them. For TLS, ln should be one of NewTLSListener whose
// configuration offers http/1.1 as the only protocol.
//
// In a server of its own, a program mounts the WebHandler at a path of its choice. It should then
// set http.Server.ReadHeaderTimeout and MaxHeaderBytes.
func (wh *WebHandler) Serve(ctx context.Context, ln net.Listener) error {
	if ln == nil {
		return errors.New("hub: WebHandler.Serve has no listener: ln is nil")
	}
	h := wh.hub
	return h.serve(ctx, ln, func(ctx context.Context, ln net.Listener) error {
		server := web.NewServer(web.ServerConfig{
			Handler: http.HandlerFunc(wh.serveRoot), Timeout: h.config.HandshakeTimeout, Logger: h.config.Logger,
			OnEvicted: func(addr net.Addr) { h.admission.recordReject(RejectPending, addr) },
		})
		return server.Serve(ctx, retryListener{ln, ctx, &h.admission})
	})
}

// retryListener is a listener whose Accept tries again after a temporary error.
type retryListener struct {
	net.Listener
	ctx       context.Context
	admission *admitter
}

// Accept implements net.Listener.
func (l retryListener) Accept() (net.Conn, error) { return l.admission.acceptNext(l.ctx, l.Listener) }

// serveRoot is the handler of Serve.
func (wh *WebHandler) serveRoot(w http.ResponseWriter, r *http.Request) {
	rules := wh.rules.Load()
	if r.URL.Path == wire.WebPath {
		wh.serve(rules, w, r)
		return
	}
	addr, _ := rules.ClientAddr(r) // of a proxy whose header is invalid, it is that of the proxy
	wh.reject(w, addr, web.NewError(http.StatusNotFound, "WebSockets connect at %s, and there is nothing else here", wire.WebPath))
}

// ServeHTTP implements http.Handler. It returns once the request is answered; the connection of a
// client goes on.
func (wh *WebHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wh.serve(wh.rules.Load(), w, r)
}

func (wh *WebHandler) serve(rules *web.Rules, w http.ResponseWriter, r *http.Request) {
	request, err := rules.Check(r)
	var rejected *web.Error
	if errors.As(err, &rejected) {
		wh.reject(w, request.Addr, rejected)
		return
	}
	h := wh.hub
	var c *conn
	upgrader := web.Upgrader{
		Subprotocol: rules.Subprotocol, Timeout: h.config.HandshakeTimeout, RetryAfter: rejectRetryDelay,
		Admit: func(nc net.Conn) (err error) {
			c, err = wh.accept(nc, &request)
			return err
		},
	}
	err = upgrader.Upgrade(w, r)
	switch {
	case c != nil && err == nil:
		h.counters.webSockets.Add(1)
		c.start(nil)
	case c != nil:
		c.finishReading(err)
	case errors.As(err, &rejected):
		h.admission.recordRefused(RejectUpgrade, request.Addr, rejected)
	}
}

// accept creates the conn of a connection whose upgrade request is about to be answered.
func (wh *WebHandler) accept(nc net.Conn, request *web.Request) (*conn, error) {
	if request.Addr.String() != nc.RemoteAddr().String() {
		nc = socket.WithRemoteAddr(nc, request.Addr)
	}
	h := wh.hub
	c, err := h.admission.accept(socket.NewWebSocket(nc), flagWebSocket)
	var rejected rejectedError
	switch {
	case err == nil:
		h.upgrades.add(c, request.Origin, request.Token)
	case errors.As(err, &rejected):
		h.admission.recordReject(rejected.reason, request.Addr)
	}
	return c, err
}

// reject answers a request with an error.
func (wh *WebHandler) reject(w http.ResponseWriter, addr net.Addr, err *web.Error) {
	reason := RejectUpgrade
	if err.ForeignOrigin {
		reason = RejectOrigin
	}
	wh.hub.admission.recordRefused(reason, addr, err)
	err.Write(w)
}
