package admin

import (
	"net/http"
	"testing"
)

func TestProbes(t *testing.T) {
	s := startHub(t, Config{})
	if got := string(s.get("/healthz")); got != "{\"status\":\"alive\"}\n" {
		t.Errorf("got %q", got)
	}
	if got := string(s.get("/readyz")); got != "{\"status\":\"ready\"}\n" {
		t.Errorf("got %q", got)
	}
	s.Drain()
	s.wantError(s.do(http.MethodGet, "/readyz", nil), http.StatusServiceUnavailable, "shutting down")
	s.get("/healthz")
	s.get("/metrics")
}
