package web

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestParseOrigins(t *testing.T) {
	for _, pattern := range []string{
		"*", "https://example.com", "http://example.com:8080", "https://*.example.com", "https://*.example.com:8443",
		"HTTPS://EXAMPLE.com", "http://[2001:db8::1]:80", "http://192.0.2.1", "capacitor://localhost",
	} {
		if _, err := ParseOrigins([]string{pattern}); err != nil {
			t.Error(err)
		}
	}
	for _, pattern := range []string{
		"", "example.com", "https://", "https://example.com/", "https://example.com/path", "https://user@example.com", "https://example.com?q",
		"https://example.com#f", "https://*", "https://*.", "https://a.*.example.com", "https://*example.com", "*.example.com", "**",
		"https://*.192.0.2.1", "https://:443", "null", "https://exam ple.com", "https://*.*.example.com",
	} {
		if o, err := ParseOrigins([]string{"https://good.example", pattern}); err == nil {
			t.Errorf("%q is accepted: %+v", pattern, o)
		}
	}
}

func TestOrigins_Allow(t *testing.T) {
	origins, err := ParseOrigins([]string{"https://example.com", "http://plain.example:8080", "https://*.wild.example", "https://*.port.example:444"})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"https://example.com":          true,
		"https://EXAMPLE.com":          true,
		"https://example.com:443":      true,
		"https://example.com:444":      false,
		"http://example.com":           false,
		"https://sub.example.com":      false,
		"https://example.com.evil.org": false,
		"https://evilexample.com":      false,
		"http://plain.example:8080":    true,
		"http://plain.example":         false,
		"https://a.wild.example":       true,
		"https://a.b.wild.example":     true,
		"https://wild.example":         false,
		"https://evilwild.example":     false,
		"https://a.wild.example:444":   false,
		"http://a.wild.example":        false,
		"https://a.port.example:444":   true,
		"https://a.port.example":       false,
	} {
		page, err := parseOrigin(text)
		if err != nil {
			t.Error(err)
		}
		if got := origins.allow(page); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

// testRequest returns a request as package http would pass it on.
func testRequest(local, remote, host string, header http.Header) *http.Request {
	addr := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(local))
	r, _ := http.NewRequestWithContext(context.WithValue(context.Background(), http.LocalAddrContextKey, net.Addr(addr)), http.MethodGet, "/connect", nil)
	r.RemoteAddr, r.Host = remote, host
	if header != nil {
		r.Header = header
	}
	return r
}

func TestRules_CheckOrigin(t *testing.T) {
	const public, loopback = "192.0.2.1:443", "127.0.0.1:9980"
	const stranger, neighbor = "198.51.100.7:5000", "127.0.0.1:5000"
	listed, err := ParseOrigins([]string{"https://listed.example"})
	if err != nil {
		t.Fatal(err)
	}
	proxied := Rules{Origins: listed, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for _, test := range []struct {
		name          string
		rules         Rules
		local, remote string
		tls           bool
		host          string
		origin        []string
		status        int // 0: accepted
	}{
		{"no browser", Rules{}, public, stranger, false, "hub.example", nil, 0},
		{"same origin", Rules{}, public, stranger, false, "hub.example", []string{"http://hub.example"}, 0},
		{"same origin by a proxy with TLS", Rules{}, public, stranger, false, "hub.example", []string{"https://hub.example"}, 0},
		{"same origin over TLS", Rules{}, public, stranger, true, "hub.example", []string{"https://hub.example"}, 0},
		{"same host without TLS", Rules{}, public, stranger, true, "hub.example", []string{"http://hub.example"}, 403},
		{"same origin, default port", Rules{}, public, stranger, true, "hub.example:443", []string{"https://hub.example"}, 0},
		{"same host, another port", Rules{}, public, stranger, true, "hub.example", []string{"https://hub.example:8443"}, 403},
		{"foreign", Rules{}, public, stranger, true, "hub.example", []string{"https://evil.example"}, 403},
		{"null", Rules{}, public, stranger, true, "hub.example", []string{"null"}, 403},
		{"null, any", Rules{Origins: Origins{any: true}}, public, stranger, true, "hub.example", []string{"null"}, 0},
		{"empty", Rules{}, public, stranger, true, "hub.example", []string{""}, 403},
		{"listed", Rules{Origins: listed}, public, stranger, true, "hub.example", []string{"https://listed.example"}, 0},
		{"not listed", Rules{Origins: listed}, public, stranger, true, "hub.example", []string{"https://other.example"}, 403},
		{"any", Rules{Origins: Origins{any: true}}, public, stranger, true, "hub.example", []string{"https://evil.example"}, 0},
		{"two", Rules{Origins: Origins{any: true}}, public, stranger, true, "hub.example", []string{"https://hub.example", "https://evil.example"}, 400},
		{"longest", Rules{}, public, stranger, true, strings.Repeat("x", 504), []string{"https://" + strings.Repeat("x", 504)}, 0},
		{"longer", Rules{}, public, stranger, true, strings.Repeat("x", 505), []string{"https://" + strings.Repeat("x", 505)}, 400},
		{"longer, any", Rules{Origins: Origins{any: true}}, public, stranger, true, "hub.example", []string{strings.Repeat("x", 513)}, 400},
		{"loopback", Rules{}, loopback, neighbor, false, "localhost:9980", []string{"http://localhost:9980"}, 0},
		{"loopback address", Rules{}, loopback, neighbor, false, "127.0.0.1:9980", []string{"http://127.0.0.1:9980"}, 0},
		{"a domain that resolves to loopback", Rules{}, loopback, neighbor, false, "evil.example:9980", []string{"http://evil.example:9980"}, 403},
		{"a proxy on the same machine", proxied, loopback, neighbor, false, "hub.example", []string{"https://hub.example"}, 0},
	} {
		var header http.Header
		if test.origin != nil {
			header = http.Header{"Origin": test.origin}
		}
		r := testRequest(test.local, test.remote, test.host, header)
		if test.tls {
			r.TLS = new(tls.ConnectionState)
		}
		origin, err := test.rules.checkOrigin(r)
		var refused *Error
		switch {
		case errors.As(err, &refused) && refused.Status != test.status:
			t.Errorf("%s: %d %v, want %d", test.name, refused.Status, err, test.status)
		case err == nil && test.status != 0:
			t.Errorf("%s: accepted, want %d", test.name, test.status)
		case err == nil && test.origin != nil && origin != test.origin[0]:
			t.Errorf("%s: the origin is %q", test.name, origin)
		case refused != nil && refused.ForeignOrigin != (test.status == http.StatusForbidden):
			t.Errorf("%s: foreign %v", test.name, refused.ForeignOrigin)
		}
	}
}
