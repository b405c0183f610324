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

// paths are all that there is to ask for, but the probes.
var paths = []string{"/metrics", "/openapi.json", "/api/clients", "/api/clients/1", "/debug/pprof/", "/debug/pprof/heap", "/nothing"}

func head(name, value string) http.Header { return http.Header{name: {value}} }

func TestATokenIsNeeded(t *testing.T) {
	s := start(t, Config{Token: token})
	s.dial(t, client.Options{})
	for _, path := range paths {
		for name, value := range map[string]string{
			"none": "", "wrong": "Bearer 0123456789abcdeg", "shorter": "Bearer 0123456789abcde", "longer": "Bearer " + token + "0",
			"empty": "Bearer ", "no scheme": token, "another scheme": "Basic " + token,
		} {
			r := s.ask(http.MethodGet, path, head("Authorization", value))
			if s.refused(r, http.StatusUnauthorized, "Authorization: Bearer"); !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s with the token %s: %v", path, name, r.header)
			}
		}
		if r := s.ask(http.MethodGet, path, head("Authorization", "Bearer "+token)); r.code == http.StatusUnauthorized {
			t.Errorf("%s with the token: %d %s", path, r.code, r.body)
		}
	}
	s.refused(s.ask(http.MethodDelete, "/api/clients/1", nil), http.StatusUnauthorized)
	if n := s.hub.Stats().Clients; n != 1 {
		t.Errorf("%d clients after a DELETE without token", n)
	}
	s.head = head("Authorization", "bearer "+token)
	s.head.Set("Host", "hub.example:9990") // whoever knows the token may use any name
	s.get("/api/clients")
}

func TestProbesNeedNoToken(t *testing.T) {
	s := start(t, Config{Token: token})
	s.head = head("Host", "10.0.0.1:9990")
	s.get("/healthz")
	s.get("/readyz")
}

// TestOtherNamesAreRefused keeps out web pages that let a name of their own point to this
// machine.
func TestOtherNamesAreRefused(t *testing.T) {
	s := start(t, Config{})
	for _, host := range []string{"evil.example", "evil.example:9990", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1:9990", "[2001:db8::1]:9990", "localhost:1:2"} {
		for _, path := range paths {
			s.refused(s.ask(http.MethodGet, path, head("Host", host)), http.StatusForbidden, host)
		}
		s.refused(s.ask(http.MethodDelete, "/api/clients/1", head("Host", host)), http.StatusForbidden, host)
	}
	for _, host := range []string{"localhost", "LocalHost:9990", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:9990"} {
		s.head = head("Host", host)
		s.get("/api/clients")
	}
}

// TestOtherSitesAreRefused keeps out web pages that send requests across.
func TestOtherSitesAreRefused(t *testing.T) {
	s := start(t, Config{})
	c := s.dial(t, client.Options{})
	path := fmt.Sprintf("/api/clients/%d", c.ID())
	for _, from := range []http.Header{
		head("Sec-Fetch-Site", "cross-site"), head("Sec-Fetch-Site", "same-site"),
		head("Origin", "https://evil.example"), head("Origin", "http://localhost:1"), head("Origin", "null"), head("Origin", "%"),
	} {
		s.refused(s.ask(http.MethodDelete, path, from), http.StatusForbidden, "origin")
		s.refused(s.ask(http.MethodGet, "/debug/pprof/profile", from), http.StatusForbidden, "origin")
	}
	for _, method := range []string{http.MethodPost, http.MethodHead, http.MethodGet} { // what a page may send without asking before
		if r := s.ask(method, path, head("X-HTTP-Method-Override", "DELETE")); r.code == http.StatusNoContent {
			t.Errorf("%s deletes", method)
		}
	}
	if r := s.ask(http.MethodOptions, path, head("Access-Control-Request-Method", "DELETE")); r.code < 400 || r.header.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("a page that asks before gets %d, %v", r.code, r.header)
	}
	for _, from := range []http.Header{head("Sec-Fetch-Site", "same-origin"), head("Sec-Fetch-Site", "none"), head("Origin", "http://"+s.admin)} {
		if r := s.ask(http.MethodGet, path, from); r.code != http.StatusOK {
			t.Errorf("%v: %d %s", from, r.code, r.body)
		}
	}
	if n := s.hub.Stats().Clients; n != 1 {
		t.Errorf("%d clients are left", n)
	}
}

func TestTokensThatCannotBe(t *testing.T) {
	for _, bad := range []string{"short", "0123456789abcde", "two words of a token", "a token\nof two lines", "öäüöäüöäüöäüöäü"} {
		ln := listen(t)
		if _, err := New(Config{Listener: ln, Token: bad, Hub: &fakeHub{}}); !errors.Is(err, ErrToken) || strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the listener is open: %v", err)
		}
	}
}

// TestOpenToOthersWithoutAToken is refused, whatever way there is to say it.
func TestOpenToOthersWithoutAToken(t *testing.T) {
	for _, address := range []string{":0", "0.0.0.0:0"} {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{Listener: ln, Hub: &fakeHub{}}); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v", address, err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the listener is open: %v", err)
		}
	}
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, Config{Listener: ln, Token: token, Hub: &fakeHub{}})
	s.refused(s.ask(http.MethodGet, "/metrics", nil), http.StatusUnauthorized)
	s.head = head("Authorization", "Bearer "+token)
	s.get("/metrics")
}
