package admin

import (
	"net/http"
	"strings"
	"testing"
)

func TestRequests_Invalid(t *testing.T) {
	s := startHub(t, Config{})
	for _, tt := range []struct {
		method, path string
		code         int
		has          string
	}{
		{"GET", "/", 404, "/openapi.json"},
		{"GET", "/", 404, "/console/"},
		{"GET", "/nothing", 404, "/nothing"},
		{"GET", "/debug/pprof/nothing", 404, "nothing"},
		{"GET", "/debug/pprof/heap/nothing", 404, "nothing"},
		{"POST", "/api/clients", 405, "GET"},
		{"PUT", "/api/clients/1", 405, "DELETE, GET"},
		{"OPTIONS", "/api/clients/1", 405, "OPTIONS"},
		{"DELETE", "/metrics", 405, "GET"},
		{"GET", "/api/clients?limit=0", 400, "1000"},
		{"GET", "/api/clients?limit=1001", 400, "1000"},
		{"GET", "/api/clients?limit=x", 400, `"x"`},
		{"GET", "/api/clients?after=-1", 400, `"-1"`},
		{"GET", "/api/clients?after=18446744073709551616", 400, "18446744073709551615"},
		{"GET", "/api/clients?after=1&after=2", 400, "2 times"},
		{"GET", "/api/clients?before=1", 400, "after, offset, limit, sort, subject, filter"},
		{"GET", "/api/clients?offset=-1", 400, `"-1"`},
		{"GET", "/api/clients?offset=2147483648", 400, "2147483647"},
		{"GET", "/api/clients?sort=name", 400, "queued_bytes"},
		{"GET", "/api/clients?sort=QUEUED_BYTES", 400, "queued_bytes"},
		{"GET", "/api/clients?sort=queued_bytes&after=1", 400, "offset"},
		{"GET", "/api/clients?filter=" + strings.Repeat("x", maxFilterLen+1), 400, "256"},
		{"GET", "/api/clients?filter=%zz", 400, "query"},
		{"GET", "/api/messages", 405, "POST"},
		{"GET", "/console/nothing.js", 404, "nothing.js"},
		{"GET", "/console/console.js/", 404, "console.js"},
		{"POST", "/console/", 405, "GET"},
		{"GET", "/console/?token=1", 400, "none"},
		{"GET", "/api/clients?a;b", 400, "query"},
		{"GET", "/api/clients/x", 400, `"x"`},
		{"DELETE", "/api/clients/0x1", 400, `"0x1"`},
		{"DELETE", "/api/clients/1?reconnect=perhaps", 400, "true or false"},
		{"GET", "/metrics?x=1", 400, "none"},
	} {
		r := s.do(tt.method, tt.path, nil)
		s.wantError(r, tt.code, tt.has)
		if kind := r.header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("%s %s: Content-Type is %q", tt.method, tt.path, kind)
		}
	}
	if r := s.do("POST", "/api/clients", nil); r.header.Get("Allow") != "GET" {
		t.Errorf("Allow: %q", r.header.Get("Allow"))
	}
}

func TestListClients_Head(t *testing.T) {
	s := startHub(t, Config{})
	if r := s.do(http.MethodHead, "/api/clients", nil); r.code != http.StatusOK || len(r.body) != 0 {
		t.Errorf("%d %s", r.code, r.body)
	}
}
