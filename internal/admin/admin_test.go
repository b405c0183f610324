package admin

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
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

func TestProfiles(t *testing.T) {
	s := startHub(t, Config{})
	for _, path := range []string{"heap", "goroutine", "profile?seconds=1", "trace?seconds=1"} {
		if got := s.get("/debug/pprof/" + path); len(got) < 100 {
			t.Errorf("%s has only %d bytes", path, len(got))
		}
	}
	if got := s.get("/debug/pprof/goroutine?debug=2"); !bytes.Contains(got, []byte("TestProfiles")) {
		t.Errorf("the goroutine profile is %.200s", got)
	}
	if got := s.get("/debug/pprof/"); !bytes.Contains(got, []byte("heap")) {
		t.Errorf("the list of profiles is %.200s", got)
	}
}

// TestServer_RejectsLargeRequest sends a header and a request line above the limit.
func TestServer_RejectsLargeRequest(t *testing.T) {
	s := startHub(t, Config{})
	for name, request := range map[string]string{
		"header": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"line":   "GET /" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		nc, err := net.Dial("tcp", s.adminAddr)
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(nc, request) // ends with the connection
		response, _ := io.ReadAll(nc)  // can end in a reset: the server does not read all
		if nc.Close(); len(response) > 0 && !bytes.HasPrefix(response, []byte("HTTP/1.1 431 ")) {
			t.Errorf("%s: %.100s", name, response)
		}
	}
	s.get("/healthz")
}

// TestLimitListener opens more connections than allowed, then closes some to make room.
func TestLimitListener(t *testing.T) {
	s := startHub(t, Config{})
	var open []net.Conn
	for range DefaultMaxConnections + 20 {
		nc, err := net.Dial("tcp", s.adminAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		open = append(open, nc)
	}
	for _, nc := range open[DefaultMaxConnections:] {
		if n, err := nc.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes from a connection above the limit", n)
		}
	}
	for _, nc := range open[:DefaultMaxConnections] {
		nc.Close()
	}
	eventually(t, "there is room for a connection", func() bool {
		got, err := s.http.Get("http://" + s.adminAddr + "/healthz")
		if err == nil {
			got.Body.Close()
		}
		return err == nil
	})
}

// TestServer_CloseDuringRequest closes the server during a request for a profile.
func TestServer_CloseDuringRequest(t *testing.T) {
	s := startHub(t, Config{})
	nc, err := net.Dial("tcp", s.adminAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, "GET /debug/pprof/trace?seconds=1000000 HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil { // the response has begun
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := io.Copy(io.Discard, nc); err != nil {
		t.Logf("the response ends with %v", err)
	}
}
