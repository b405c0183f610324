package main

import (
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// startHub starts a hub in this process until the end of the test, and returns its address.
func startHub(t *testing.T, config hub.Config) string {
	t.Helper()
	_, addr := newHub(t, config)
	return addr
}

// startWebHub is startHub for a hub that also accepts WebSockets, whose address it returns as well.
func startWebHub(t *testing.T, config hub.Config) (addr, webAddr string) {
	t.Helper()
	h, addr := newHub(t, config)
	handler, err := hub.NewWebHandler(h, hub.WebConfig{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return addr, strings.TrimPrefix(server.URL, "http://")
}

// newHub is startHub that returns the hub as well.
func newHub(t *testing.T, config hub.Config) (*hub.Hub, string) {
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
	ctx := context.WithoutCancel(t.Context())
	go func() { served <- h.Serve(ctx, ln) }() // ends with Shutdown; the cleanup waits
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, hub.ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return h, ln.Addr().String()
}
