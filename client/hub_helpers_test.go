package client_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// testTimeout is how long a test waits for an event that must happen.
const testTimeout = 30 * time.Second

// newHub starts a hub and returns its address. The hub ends with the test.
func newHub(t testing.TB) (h *hub.Hub, addr string) {
	t.Helper()
	return newHubWith(t, hub.Config{})
}

// newHubWith starts a hub with a configuration. The hub ends with the test.
func newHubWith(t testing.TB, config hub.Config) (h *hub.Hub, addr string) {
	t.Helper()
	h, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(context.Background(), ln) }() // ends with Shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, hub.ErrClosed) {
			t.Error(err)
		}
	})
	return h, ln.Addr().String()
}

// dial connects n clients, which are closed at the end of the test.
func dial(t testing.TB, addr string, n int) (clients []*client.Client) {
	t.Helper()
	return dialWith(t, addr, n, nil)
}

func dialWith(t testing.TB, addr string, n int, options *client.Options) (clients []*client.Client) {
	t.Helper()
	for range n {
		c, err := client.Dial(t.Context(), addr, options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		clients = append(clients, c)
	}
	return clients
}

// waitUntil polls for a condition that has no notification.
func waitUntil(t testing.TB, condition string, holds func() bool) {
	t.Helper()
	deadline := time.After(testTimeout)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("timeout: %s", condition)
		}
	}
}

// waitLeft waits until watcher no longer lists the client id.
func waitLeft(t testing.TB, watcher *client.Client, id uint64) {
	t.Helper()
	first := true
	for p, err := range watcher.Watch(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if first && !slices.Contains(p.Joined, id) || slices.Contains(p.Left, id) {
			return
		}
		first = false
	}
}

func wantFates(t testing.TB, r *client.Report, err error, want ...wire.Fate) {
	t.Helper()
	if err != nil {
		t.Fatalf("no report: %v", err)
	}
	if !slices.Equal(r.Fates, want) {
		t.Fatalf("fates %v, want %v", r.Fates, want)
	}
}

// flakyDialer dials a hub. The test can cut its connections.
type flakyDialer struct {
	mu     sync.Mutex
	addr   string
	nc     net.Conn
	dials  int
	isDown bool // dials fail
	events chan client.Event
}

func newFlakyDialer(addr string) *flakyDialer {
	return &flakyDialer{addr: addr, events: make(chan client.Event, 1000)}
}

// options returns Options that use d.
func (d *flakyDialer) options() *client.Options {
	return &client.Options{Dial: d.dial, OnEvent: func(e client.Event) { d.events <- e }}
}

// newClient connects a client through d.
func (d *flakyDialer) newClient(t testing.TB, change ...func(*client.Options)) *client.Client {
	t.Helper()
	o := d.options()
	for _, f := range change {
		f(o)
	}
	c, err := client.Dial(t.Context(), d.addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (d *flakyDialer) dial(ctx context.Context) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isDown {
		return nil, errors.New("the dialer is down")
	}
	var netDialer net.Dialer
	nc, err := netDialer.DialContext(ctx, "tcp", d.addr)
	if err == nil {
		d.nc, d.dials = nc, d.dials+1
	}
	return nc, err
}

// setAddr makes later dials go to another hub.
func (d *flakyDialer) setAddr(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addr = addr
}

// cut breaks the connection, by a reset or by closing it.
func (d *flakyDialer) cut(reset bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if reset {
		_ = d.nc.(*net.TCPConn).SetLinger(0)
	}
	d.nc.Close()
}

// setDown cuts the connection and makes dials fail while yes is true.
func (d *flakyDialer) setDown(yes bool) {
	d.mu.Lock()
	d.isDown = yes
	d.mu.Unlock()
	if yes {
		d.cut(true)
	}
}

func (d *flakyDialer) connections() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dials
}

// wantEvent waits for an event of that kind. Events before it must be EventReconnectFailed, or
// of the kinds in between.
func (d *flakyDialer) wantEvent(t testing.TB, kind client.EventKind, between ...client.EventKind) client.Event {
	t.Helper()
	for {
		select {
		case e := <-d.events:
			if e.Kind == kind {
				return e
			}
			if e.Kind != client.EventReconnectFailed && !slices.Contains(between, e.Kind) {
				t.Fatalf("event %v (%v), want %v", e.Kind, e.Err, kind)
			}
		case <-time.After(testTimeout):
			t.Fatalf("timeout: event %v", kind)
		}
	}
}
