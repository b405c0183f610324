package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testTimeout  = 60 * time.Second     // maximum wait for a condition
	pollInterval = 2 * time.Millisecond // time between two checks of a condition
)

// testServer is a hub with an admin address, on loopback sockets.
type testServer struct {
	*Server
	t         testing.TB
	hub       *hub.Hub
	hubAddr   string // host and port of the hub
	adminAddr string // host and port of the admin address
	http      http.Client
	header    http.Header // of every request
}

// startHub starts a hub and its admin address until the end of the test.
func startHub(t testing.TB, config Config) *testServer {
	t.Helper()
	return startHubWith(t, hub.Config{MaxClients: 50}, func(*hub.Hub) Config { return config })
}

// startHubWith is startHub for a hub with this configuration. configure returns that of its admin
// address.
func startHubWith(t testing.TB, hubConfig hub.Config, configure func(*hub.Hub) Config) *testServer {
	t.Helper()
	latency := NewLatency()
	hubConfig.OnLatency = latency.Observe
	h, err := hub.New(hubConfig)
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	served := make(chan error, 1)
	ctx := context.WithoutCancel(t.Context())
	go func() { served <- h.Serve(ctx, ln) }() // ends with Shutdown; the cleanup waits
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), testTimeout)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, hub.ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	config := configure(h)
	config.Hub, config.Latency = h, latency
	s := startAdmin(t, config)
	s.hub, s.hubAddr = h, ln.Addr().String()
	return s
}

// startAdmin starts an admin address without a hub, until the end of the test.
func startAdmin(t testing.TB, config Config) *testServer {
	t.Helper()
	if config.Listener == nil {
		config.Listener = listen(t)
	}
	if config.Messages == nil {
		config.Messages = config.Hub.(Messages)
	}
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	s := &testServer{Server: server, t: t, adminAddr: config.Listener.Addr().String(), header: http.Header{}}
	s.http.Transport = &http.Transport{DisableCompression: true}
	s.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
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

// reply is the response to a request.
type reply struct {
	code   int
	header http.Header
	body   []byte
}

// do sends a request without a body. A header named Host replaces the host of the URL.
func (s *testServer) do(method, path string, header http.Header) reply {
	s.t.Helper()
	return s.doBody(method, path, header, nil)
}

// doBody sends a request.
func (s *testServer) doBody(method, path string, header http.Header, content io.Reader) reply {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.adminAddr+path, content)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, source := range []http.Header{s.header, header} {
		for name, values := range source {
			r.Header[name] = values
		}
	}
	if host, ok := r.Header["Host"]; ok {
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

// get returns the body of the response to a GET, whose code must be 200.
func (s *testServer) get(path string) []byte {
	s.t.Helper()
	r := s.do(http.MethodGet, path, nil)
	if r.code != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, r.code, r.body)
	}
	return r.body
}

// wantError fails unless r has this code and an error text with all substrings.
func (s *testServer) wantError(r reply, code int, substrings ...string) {
	s.t.Helper()
	var p errorResponse
	if err := json.Unmarshal(r.body, &p); err != nil || r.code != code || p.Error == "" {
		s.t.Fatalf("got %d %s, want %d and an error text", r.code, r.body, code)
	}
	for _, substring := range substrings {
		if !strings.Contains(p.Error, substring) {
			s.t.Errorf("%q does not contain %q", p.Error, substring)
		}
	}
}

// dial connects a client to the hub.
func (s *testServer) dial(t testing.TB, options client.Options) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	options.NoReconnect = true
	c, err := client.Dial(ctx, s.hubAddr, &options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// eventually waits until isMet returns true, and fails after testTimeout.
func eventually(t testing.TB, condition string, isMet func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !isMet() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("timeout waiting until %s", condition)
		}
	}
}

// fakeHub is a Hub whose clients and counters the test sets.
type fakeHub struct {
	stats   hub.Stats
	sendErr error // of Send

	mu      sync.Mutex
	clients []hub.ClientInfo
	calls   int
}

func (f *fakeHub) update(i int, change func(*hub.ClientInfo)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.clients[i])
}

func (f *fakeHub) Stats() hub.Stats { return f.stats }

func (f *fakeHub) ClientsAfter(after uint64) iter.Seq[hub.ClientInfo] {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	clients := slices.Clone(f.clients)
	return func(yield func(hub.ClientInfo) bool) {
		for _, c := range clients {
			if c.ID > after && !yield(c) {
				return
			}
		}
	}
}

func (f *fakeHub) Client(uint64) (hub.ClientInfo, bool) { return hub.ClientInfo{}, false }

func (f *fakeHub) Disconnect(uint64, bool) bool { return false }

func (f *fakeHub) ClientFates(uint64) (map[wire.Fate]uint64, bool) { return nil, false }

func (f *fakeHub) Send(context.Context, uint64, []uint64, []byte, *hub.SendOptions) (*hub.Report, error) {
	return nil, f.sendErr
}
