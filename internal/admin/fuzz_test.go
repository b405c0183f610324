package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/client"
)

// FuzzAdmin sends arbitrary requests. Without the token only the probes and the files of the console
// are answered. With the token no request causes a server error, and every error of the API has a
// text.
func FuzzAdmin(f *testing.F) {
	bearer := "Bearer " + token
	for _, path := range append(paths, "/healthz", "/readyz", "/api/clients?after=1&limit=2", "/api/clients?limit=0&limit=1", "/api/clients?after=%zz",
		"/api/clients/1?reconnect=maybe", "/api/clients/18446744073709551616", "/api//clients", "/api/clients?sort=queued_bytes&offset=9&filter=%00%ff", "/api/clients?subject=&sort=id",
		"/console", "/console/", "/console/console.js", "/console/../api/clients", "/console/%2e%2e/api/summary", "/../healthz", "/healthz/../api/clients", "/debug/pprof/goroutine?debug=2") {
		for _, authorization := range []string{"", bearer, "bearer  " + token + " ", "Basic " + token} {
			f.Add(http.MethodGet, path, authorization, "localhost", "")
		}
		f.Add(http.MethodDelete, path, bearer, "evil.example", "http://evil.example")
		f.Add(http.MethodPost, path, "", "localhost", "null")
	}
	s := startHub(f, Config{Token: token})
	f.Fuzz(func(t *testing.T, method, target, authorization, host, origin string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || strings.HasPrefix(u.Path, "/debug/pprof/profile") || strings.HasPrefix(u.Path, "/debug/pprof/trace") {
			return // net/http rejects the former, and the latter take seconds
		}
		r := &http.Request{
			Method: method, URL: u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: host, RequestURI: target, Body: http.NoBody,
			Header: http.Header{"Authorization": {authorization}, "Origin": {origin}},
		}
		c := s.dial(t, client.Options{})
		w := httptest.NewRecorder()
		s.Server.http.Handler.ServeHTTP(w, r.WithContext(t.Context()))
		scheme, sent, _ := strings.Cut(authorization, " ")
		authorized := strings.EqualFold(scheme, "Bearer") && strings.TrimSpace(sent) == token
		isPublic := u.Path == healthPath || u.Path == readyPath || u.Path == "/console" || u.Path == "/console/" || loadConsole()[strings.TrimPrefix(u.Path, "/console/")].content != nil
		switch {
		case w.Code >= 500:
			t.Errorf("%s %s: %d %s", method, target, w.Code, w.Body)
		case !authorized && !isPublic && w.Code != http.StatusUnauthorized && w.Code != http.StatusForbidden:
			t.Errorf("%s %s without the token: %d %s", method, target, w.Code, w.Body)
		case w.Code == http.StatusBadRequest && strings.HasPrefix(u.Path, "/api/"):
			var p errorResponse
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Error == "" {
				t.Errorf("%s %s: %s has no error text", method, target, w.Body)
			}
		}
		if _, connected := s.hub.Client(c.ID()); !connected && !(authorized && method == http.MethodDelete) {
			t.Errorf("%s %s disconnected a client", method, target)
		}
	})
}
