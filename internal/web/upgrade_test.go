package web

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// upgradeRequest is a valid upgrade request for a Server whose handler is upgradeWith.
const upgradeRequest = head + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: test.v2\r\n\r\n"

// upgradeWith returns a handler that upgrades each request with the subprotocol test.v2.
func upgradeWith(t *testing.T, admit func(net.Conn) error) http.HandlerFunc {
	rules := Rules{Subprotocol: "test.v2"}
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := rules.Check(r); err != nil {
			t.Error(err)
		}
		u := Upgrader{Subprotocol: rules.Subprotocol, Timeout: testTimeout, RetryAfter: 2500 * time.Millisecond, Admit: admit}
		_ = u.Upgrade(w, r) // the tests see its effects
	}
}

// TestUpgrader_Admitted_GetsConn echoes bytes over an upgraded connection, after its server has
// ended: the connection is no longer of the server.
func TestUpgrader_Admitted_GetsConn(t *testing.T) {
	conns := make(chan net.Conn, 1)
	ts := startServer(t, testTimeout, upgradeWith(t, func(nc net.Conn) error { conns <- nc; return nil }))
	nc := ts.dial(t)
	if _, err := io.WriteString(nc, upgradeRequest); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	if h := response.Header; response.StatusCode != 101 || h.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ||
		h.Get("Sec-WebSocket-Protocol") != "test.v2" || h.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("%s, %v", response.Status, h)
	}
	server := <-conns
	defer server.Close()
	if _, err := nc.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestUpgrader_Rejected_IsToldWhen(t *testing.T) {
	ts := startServer(t, testTimeout, upgradeWith(t, func(net.Conn) error { return errors.New("too many clients") }))
	response := ts.exchange(t, upgradeRequest)
	for _, want := range []string{"HTTP/1.1 503 Service Unavailable\r\n", "Retry-After: 2\r\n", "Connection: close\r\n", "\r\n\r\ntoo many clients\n"} {
		if !strings.Contains(response, want) {
			t.Errorf("%q is not in %q", want, response)
		}
	}
}

// TestUpgrader_BytesBehindRequest_AreRejected sends a frame without waiting for the response.
func TestUpgrader_BytesBehindRequest_AreRejected(t *testing.T) {
	ts := startServer(t, testTimeout, upgradeWith(t, func(net.Conn) error { t.Error("it is admitted"); return nil }))
	if response := ts.exchange(t, upgradeRequest+"\x82\x80\x00\x00\x00\x00"); !strings.HasPrefix(response, "HTTP/1.1 400") {
		t.Errorf("%q", response)
	}
}

// TestUpgrader_ForeignServer_IsAnError uses a server whose connections cannot be taken.
func TestUpgrader_ForeignServer_IsAnError(t *testing.T) {
	ts := startServer(t, testTimeout, func(w http.ResponseWriter, r *http.Request) {
		upgradeWith(t, func(net.Conn) error { t.Error("it is admitted"); return nil })(struct{ http.ResponseWriter }{w}, r)
	})
	if response := ts.exchange(t, upgradeRequest); !strings.HasPrefix(response, "HTTP/1.1 500") {
		t.Errorf("%q", response)
	}
}
