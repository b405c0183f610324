package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 60 * time.Second     // how long a test waits for what must happen
	glance   = 2 * time.Millisecond // how often it looks
)

// site is a hub with an admin address, on loopback sockets.
type site struct {
	*Server
	t     testing.TB
	hub   *hub.Hub
	addr  string // of the hub
	admin string // host and port of the admin address
	http  http.Client
	head  http.Header // of every request
}

// start starts both until the end of the test.
func start(t testing.TB, config Config) *site {
	t.Helper()
	latency := NewLatency()
	h, err := hub.New(hub.Config{MaxClients: 50, Latency: latency.Observe})
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	served := make(chan error, 1)
	ctx := context.WithoutCancel(t.Context())
	go func() { served <- h.Serve(ctx, ln) }() // ends with Shutdown; the cleanup waits
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, hub.ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	config.Hub, config.Latency = h, latency
	s := serve(t, config)
	s.hub, s.addr = h, ln.Addr().String()
	return s
}

// serve starts an admin address alone.
func serve(t testing.TB, config Config) *site {
	t.Helper()
	if config.Listener == nil {
		config.Listener = listen(t)
	}
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Server: server, t: t, admin: config.Listener.Addr().String(), head: http.Header{}}
	s.http.Transport = &http.Transport{}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }() // ends with Close; the cleanup waits
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
	return s
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// reply is what came of a request.
type reply struct {
	code   int
	header http.Header
	body   []byte
}

// ask sends a request. A header named Host is its host.
func (s *site) ask(method, path string, header http.Header) reply {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.admin+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, from := range []http.Header{s.head, header} {
		for name, values := range from {
			r.Header[name] = values
		}
	}
	if host, there := r.Header["Host"]; there {
		r.Host = host[0]
	}
	got, err := s.http.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{got.StatusCode, got.Header, body}
}

// get asks for something that must be there.
func (s *site) get(path string) []byte {
	s.t.Helper()
	r := s.ask(http.MethodGet, path, nil)
	if r.code != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, r.code, r.body)
	}
	return r.body
}

// refused fails unless a request was answered by this code and a sentence that has all
// of these in it.
func (s *site) refused(r reply, code int, has ...string) {
	s.t.Helper()
	var p problem
	if err := json.Unmarshal(r.body, &p); err != nil || r.code != code || p.Error == "" {
		s.t.Fatalf("got %d %s, want %d and a sentence", r.code, r.body, code)
	}
	for _, part := range has {
		if !strings.Contains(p.Error, part) {
			s.t.Errorf("%q does not say %q", p.Error, part)
		}
	}
}

// dial connects a client to the hub.
func (s *site) dial(t testing.TB, options client.Options) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	options.NoReconnect = true
	c, err := client.Dial(ctx, s.addr, &options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still not: %s", what)
		}
	}
}
