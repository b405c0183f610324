package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// exampleWebAddr is the web address of examples, on the loopback interface.
const exampleWebAddr = "localhost:9980"

// webFlags are the settings of the web address, at which browsers connect.
type webFlags struct {
	addr           string // empty: no web address
	origins        []string
	tokenCookie    string
	trustedProxies []netip.Prefix
}

func (f *webFlags) addFlags(s *settings.Settings) {
	settings.Add(s, &f.addr, "web", "", listenAddress(),
		"address at which browsers connect by WebSocket, with TLS if\n-tls-cert is set; off: no web address")
	settings.Add(s, &f.origins, "web-origins", nil, origins(),
		"origins of web pages that can connect, separated by commas,\nbesides pages of the same origin (https://example.com,\nhttps://*.example.com); *: all", settings.Reloadable)
	settings.Add(s, &f.tokenCookie, "web-token-cookie", "", settings.AnyText(),
		"name of a cookie that holds the token of a browser; empty:\nno cookie is read", settings.Reloadable)
	settings.Add(s, &f.trustedProxies, "web-trusted-proxies", nil, prefixes(),
		"addresses or networks of the HTTP proxies before -web,\nseparated by commas: X-Forwarded-For or Forwarded of their\nrequests names the client", settings.Reloadable)
}

// config returns the configuration of the handler.
func (f *webFlags) config() hub.WebConfig {
	return hub.WebConfig{AllowedOrigins: f.origins, TokenCookie: f.tokenCookie, TrustedProxies: f.trustedProxies}
}

// validate returns an error if the settings contradict each other, or the others. tokens says
// whether clients need a token.
func (f *webFlags) validate(tokens bool) error {
	switch {
	case f.addr == "" && len(f.origins) > 0:
		return errors.New("-web-origins requires -web, the address at which web pages connect")
	case f.addr == "" && f.tokenCookie != "":
		return errors.New("-web-token-cookie requires -web, the address at which browsers connect")
	case f.addr == "" && len(f.trustedProxies) > 0:
		return errors.New("-web-trusted-proxies requires -web, the address behind the proxies")
	case f.tokenCookie != "" && !tokens:
		return errors.New("-web-token-cookie requires -auth-keys, the keys that verify tokens")
	}
	if err := (hub.WebConfig{TokenCookie: f.tokenCookie}).Validate(); err != nil {
		return fmt.Errorf("-web-token-cookie=%s is not the name of a cookie", f.tokenCookie)
	}
	if err := f.config().Validate(); err != nil { // each setting is valid by itself
		return errors.New("-web-token-cookie with -web-origins=*: every web page could use the tokens of its readers")
	}
	return nil
}

// maxOrigins is the maximum number of origins in a setting.
const maxOrigins = 1000

// origins is a list of patterns of origins.
func origins() settings.Type[[]string] {
	return settings.Type[[]string]{
		Parse: func(text string) (list []string, err error) {
			if text == "" {
				return nil, nil
			}
			for part := range strings.SplitSeq(text, ",") {
				part = strings.TrimSpace(part)
				err := (hub.WebConfig{AllowedOrigins: []string{part}}).Validate()
				switch {
				case err != nil && part != text:
					return nil, settings.InvalidPartError(settings.Quote(part) + " is not an origin")
				case err != nil:
					return nil, settings.ErrNotAllowed
				}
				list = append(list, part)
			}
			if len(list) > maxOrigins {
				return nil, settings.InvalidPartError(fmt.Sprintf("the number of entries is %d", len(list)))
			}
			return list, nil
		},
		Format:  func(list []string) string { return strings.Join(list, ",") },
		Allowed: fmt.Sprintf("up to %d origins without a path (https://example.com, https://*.example.com), and *", maxOrigins),
	}
}

// webServer is the web address of a hub while the address is served. A nil webServer means that
// the hub has no web address.
type webServer struct {
	handler *hub.WebHandler
	ln      net.Listener
	done    chan struct{} // closed when Serve has returned
	err     error         // of Serve; valid once done is closed
}

// newWebServer returns the web address of h, which is not open yet, unless it is disabled.
func (f *webFlags) newWebServer(h *hub.Hub) (*webServer, error) {
	if f.addr == "" {
		return nil, nil
	}
	handler, err := hub.NewWebHandler(h, f.config())
	return &webServer{handler: handler, done: make(chan struct{})}, err
}

// prepare is the reloadStep of the web address.
func (w *webServer) prepare(next *webFlags) (apply func(), err error) {
	if w == nil || next.addr == "" { // which takes a restart
		return nil, nil
	}
	return func() { _ = w.handler.SetConfig(next.config()) }, nil // config.validate has validated it
}

// listen opens the address.
func (w *webServer) listen(addr string) (err error) {
	if w == nil {
		return nil
	}
	w.ln, err = listenAt(addr)
	return err
}

// serve begins to serve WebSockets, until the hub is shut down or ctx ends.
func (w *webServer) serve(ctx context.Context, c *config, tls *tlsReloader, logger *slog.Logger) {
	if w == nil {
		return
	}
	f := &c.web
	ln := tls.wrapWebListener(newFileLimitListener(w.ln, maxOpenFiles()))
	logger.Info("web address open", "addr", w.ln.Addr().String(), "tls", tls.store != nil,
		"origins", origins().Format(f.origins), "trusted_proxies", prefixes().Format(f.trustedProxies))
	c.auth.warnUnauthenticated(logger, w.ln.Addr(), "-web="+exampleWebAddr, c.tls.clientCA)
	go func() { // ends with the hub, which wait waits for
		defer close(w.done)
		w.err = w.handler.Serve(ctx, ln)
	}()
}

// stopped returns a channel that is closed when the address is no longer served.
func (w *webServer) stopped() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.done
}

// unexpectedErr returns the error of Serve if the address is no longer served although the hub
// is, and nil otherwise.
func (w *webServer) unexpectedErr() error {
	select {
	case <-w.stopped():
	default:
		return nil
	}
	if errors.Is(w.err, hub.ErrClosed) || errors.Is(w.err, context.Canceled) {
		return nil
	}
	return w.err
}

// close closes an address that was not served.
func (w *webServer) close() {
	if w != nil && w.ln != nil {
		w.ln.Close()
	}
}

// wait waits until the address is no longer served, once the hub is shut down.
func (w *webServer) wait() {
	if w != nil {
		<-w.done
	}
}
