package admin

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
)

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
