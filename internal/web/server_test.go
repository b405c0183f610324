package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// testTimeout is the time limit for something that must happen.
const testTimeout = time.Minute

const head = "GET /connect HTTP/1.1\r\nHost: hub.example\r\n"

// testServer is a Server on the loopback interface until the end of the test.
type testServer struct {
	addr    string
	evicted atomic.Int32
}

func startServer(t *testing.T, timeout time.Duration, handler http.HandlerFunc, change ...func(*Server)) *testServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ts := &testServer{addr: ln.Addr().String()}
	s := NewServer(ServerConfig{
		Handler: handler, Timeout: timeout, Logger: slog.New(slog.DiscardHandler), OnEvicted: func(net.Addr) { ts.evicted.Add(1) },
	})
	for _, apply := range change {
		apply(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }() // ends with ctx; the cleanup waits
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return ts
}

func (ts *testServer) dial(t *testing.T) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", ts.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	return nc
}

// exchange writes request and reads until the server ends the connection.
func (ts *testServer) exchange(t *testing.T, request string) string {
	t.Helper()
	nc := ts.dial(t)
	_, _ = io.WriteString(nc, request) // the server can have closed the connection
	response, err := io.ReadAll(nc)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		t.Fatalf("after %q the connection stays open", response)
	}
	return string(response)
}

func ok(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") }

// TestServer_OneRequest_EndsConnection checks that no connection is kept alive.
func TestServer_OneRequest_EndsConnection(t *testing.T) {
	ts := startServer(t, testTimeout, ok)
	response := ts.exchange(t, head+"Connection: keep-alive\r\n\r\n"+head+"\r\n")
	if strings.Count(response, "HTTP/1.1 200") != 1 || !strings.Contains(response, "Connection: close") {
		t.Errorf("%q", response)
	}
}

func TestServer_Head_IsAtMost8KiB(t *testing.T) {
	ts := startServer(t, testTimeout, ok)
	const fixed = len(head) + len("X: \r\n\r\n")
	for size, want := range map[int]string{8<<10 - 1: "200", 8<<10 + 1: "431", 1 << 20: "431"} {
		response := ts.exchange(t, head+"X: "+strings.Repeat("x", size-fixed)+"\r\n\r\n")
		if !strings.HasPrefix(response, "HTTP/1.1 "+want) && (size < 1<<20 || response != "") { // a reset can discard it
			t.Errorf("a head of %d bytes: %.60q, want %s", size, response, want)
		}
	}
}

// TestServer_UnfinishedRequests_End has requests that never end: they are ended by the timeout.
func TestServer_UnfinishedRequests_End(t *testing.T) {
	ts := startServer(t, 200*time.Millisecond, ok)
	for name, start := range map[string]string{
		"nothing": "", "a part": "GET /con", "a header": head, "a body": "POST /connect HTTP/1.1\r\nHost: hub.example\r\nContent-Length: 100\r\n\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts.exchange(t, start)
		})
	}
	t.Run("dripping", func(t *testing.T) {
		t.Parallel()
		nc := ts.dial(t)
		done := make(chan struct{})
		go func() { // ends when the server ends the connection
			defer close(done)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				<-tick.C
				if _, err := fmt.Fprintf(nc, "X%d: x\r\n", i); err != nil {
					return
				}
			}
		}()
		_, _ = io.WriteString(nc, head)
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection stays open")
		}
		nc.Close()
		<-done
	})
}

// TestServer_TooManyPending_ReplacesOldest opens more connections than can be pending. A client
// that sends its request at once is served, and the oldest of the others end.
func TestServer_TooManyPending_ReplacesOldest(t *testing.T) {
	const maxConns, conns = 5, 20
	ts := startServer(t, testTimeout, ok, func(s *Server) { s.pending.max = maxConns })
	var silent []net.Conn
	for range conns {
		silent = append(silent, ts.dial(t))
	}
	if response := ts.exchange(t, head+"\r\n"); !strings.HasPrefix(response, "HTTP/1.1 200") {
		t.Errorf("%q", response)
	}
	for _, nc := range silent[:conns+1-maxConns] {
		if n, err := io.Copy(io.Discard, nc); n > 0 {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	if n := ts.evicted.Load(); n != conns+1-maxConns {
		t.Errorf("%d evicted, want %d", n, conns+1-maxConns)
	}
}

// TestUpgrader_SeveralLines_AreAccepted sends lists, and headers of several lines, as proxies and
// libraries do. What Rules.Check accepts must become a WebSocket.
func TestUpgrader_SeveralLines_AreAccepted(t *testing.T) {
	ts := startServer(t, testTimeout, upgradeWith(t, func(nc net.Conn) error { t.Cleanup(func() { nc.Close() }); return nil }))
	for _, change := range [][2]string{
		{"Connection: Upgrade\r\n", "Connection: keep-alive\r\nConnection: Upgrade\r\n"},
		{"Upgrade: websocket\r\n", "Upgrade: h2c\r\nUpgrade: WebSocket\r\n"},
		{"Upgrade: websocket\r\n", "Upgrade: h2c, websocket\r\n"},
		{"Sec-WebSocket-Protocol: ", "Sec-WebSocket-Protocol: @@\r\nSec-WebSocket-Protocol: other, "},
		{"Sec-WebSocket-Protocol: ", "Sec-WebSocket-Protocol: \"other\" , ,"},
	} {
		nc := ts.dial(t)
		if _, err := io.WriteString(nc, strings.Replace(upgradeRequest, change[0], change[1], 1)); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Sec-WebSocket-Protocol") != "test.v2" {
			t.Errorf("%q: %s, %v", change[1], response.Status, response.Header)
		}
	}
}
