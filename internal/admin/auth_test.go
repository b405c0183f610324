package admin

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/client"
)

const token = "0123456789abcdef"

// paths are those of all routes that need a token, and one without a route.
var paths = []string{"/metrics", "/openapi.json", "/api/summary", "/api/messages", "/api/clients", "/api/clients/1", "/debug/pprof/", "/debug/pprof/heap", "/nothing"}

func newHeader(name, value string) http.Header { return http.Header{name: {value}} }

func TestAuthorize_TokenRequired(t *testing.T) {
	s := startHub(t, Config{Token: token})
	s.dial(t, client.Options{})
	for _, path := range paths {
		for name, value := range map[string]string{
			"none": "", "wrong": "Bearer 0123456789abcdeg", "shorter": "Bearer 0123456789abcde", "longer": "Bearer " + token + "0",
			"empty": "Bearer ", "no scheme": token, "another scheme": "Basic " + token,
		} {
			r := s.do(http.MethodGet, path, newHeader("Authorization", value))
			if s.wantError(r, http.StatusUnauthorized, "Authorization: Bearer"); !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s with the token %s: %v", path, name, r.header)
			}
		}
		if r := s.do(http.MethodGet, path, newHeader("Authorization", "Bearer "+token)); r.code == http.StatusUnauthorized {
			t.Errorf("%s with the token: %d %s", path, r.code, r.body)
		}
	}
	s.wantError(s.do(http.MethodDelete, "/api/clients/1", nil), http.StatusUnauthorized)
	if n := s.hub.Stats().Clients; n != 1 {
		t.Errorf("%d clients after a DELETE without token", n)
	}
	s.header = newHeader("Authorization", "bearer "+token)
	s.header.Set("Host", "hub.example:9990") // with the token any host name is allowed
	s.get("/api/clients")
}

func TestAuthorize_ProbesWithoutToken(t *testing.T) {
	s := startHub(t, Config{Token: token})
	s.header = newHeader("Host", "10.0.0.1:9990")
	s.get("/healthz")
	s.get("/readyz")
}

// TestAuthorize_RejectsForeignHost checks that the server rejects requests of web pages by DNS
// rebinding.
func TestAuthorize_RejectsForeignHost(t *testing.T) {
	s := startHub(t, Config{})
	for _, host := range []string{"evil.example", "evil.example:9990", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1:9990", "[2001:db8::1]:9990", "localhost:1:2"} {
		for _, path := range paths {
			s.wantError(s.do(http.MethodGet, path, newHeader("Host", host)), http.StatusForbidden, host)
		}
		s.wantError(s.do(http.MethodDelete, "/api/clients/1", newHeader("Host", host)), http.StatusForbidden, host)
	}
	for _, host := range []string{"localhost", "LocalHost:9990", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:9990"} {
		s.header = newHeader("Host", host)
		s.get("/api/clients")
	}
}

// TestAuthorize_RejectsCrossOrigin checks that the server rejects requests of web pages of
// another origin.
func TestAuthorize_RejectsCrossOrigin(t *testing.T) {
	s := startHub(t, Config{})
	c := s.dial(t, client.Options{})
	path := fmt.Sprintf("/api/clients/%d", c.ID())
	for _, from := range []http.Header{
		newHeader("Sec-Fetch-Site", "cross-site"), newHeader("Sec-Fetch-Site", "same-site"),
		newHeader("Origin", "https://evil.example"), newHeader("Origin", "http://localhost:1"), newHeader("Origin", "null"), newHeader("Origin", "%"),
	} {
		s.wantError(s.do(http.MethodDelete, path, from), http.StatusForbidden, "origin")
		s.wantError(s.do(http.MethodGet, "/debug/pprof/profile", from), http.StatusForbidden, "origin")
	}
	// Browsers send these methods without a CORS preflight request.
	for _, method := range []string{http.MethodPost, http.MethodHead, http.MethodGet} {
		if r := s.do(method, path, newHeader("X-HTTP-Method-Override", "DELETE")); r.code == http.StatusNoContent {
			t.Errorf("%s disconnects a client", method)
		}
	}
	if r := s.do(http.MethodOptions, path, newHeader("Access-Control-Request-Method", "DELETE")); r.code < 400 || r.header.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("a CORS preflight request is answered by %d, %v", r.code, r.header)
	}
	for _, from := range []http.Header{newHeader("Sec-Fetch-Site", "same-origin"), newHeader("Sec-Fetch-Site", "none"), newHeader("Origin", "http://"+s.adminAddr)} {
		if r := s.do(http.MethodGet, path, from); r.code != http.StatusOK {
			t.Errorf("%v: %d %s", from, r.code, r.body)
		}
	}
	if n := s.hub.Stats().Clients; n != 1 {
		t.Errorf("%d clients are connected, want 1", n)
	}
}

func TestNew_InvalidToken(t *testing.T) {
	for _, bad := range []string{"short", "0123456789abcde", "two words of a token", "a token\nof two lines", "öäüöäüöäüöäüöäü"} {
		ln := listen(t)
		if _, err := New(Config{Listener: ln, Token: bad, Hub: &fakeHub{}}); !errors.Is(err, ErrInvalidToken) || strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the listener is not closed: %v", err)
		}
	}
}

// TestNew_TokenRequired checks that New rejects listeners on all addresses without a token.
func TestNew_TokenRequired(t *testing.T) {
	for _, address := range []string{":0", "0.0.0.0:0"} {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{Listener: ln, Hub: &fakeHub{}}); !errors.Is(err, ErrTokenRequired) {
			t.Errorf("%s: %v", address, err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the listener is not closed: %v", err)
		}
	}
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	s := startAdmin(t, Config{Listener: ln, Token: token, Hub: &fakeHub{}})
	s.wantError(s.do(http.MethodGet, "/metrics", nil), http.StatusUnauthorized)
	s.header = newHeader("Authorization", "Bearer "+token)
	s.get("/metrics")
}
