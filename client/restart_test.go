package client_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
)

// addrDialer dials a hub. It waits until the test has set the address.
type addrDialer struct{ addr atomic.Pointer[string] }

func (d *addrDialer) dial(ctx context.Context) (net.Conn, error) {
	addr := d.addr.Load()
	if addr == nil {
		return nil, errors.New("not yet")
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", *addr)
}

// TestHubRestart_ReusedIDGetsNoOldMessages restarts a hub, and the id of a client goes to
// another v1 client. Messages that were queued for the old client fail, with and without
// Options.Resend.
func TestHubRestart_ReusedIDGetsNoOldMessages(t *testing.T) {
	for name, resend := range map[string]bool{"fails": false, "sends again": true} {
		t.Run(name, func(t *testing.T) {
			old, err := hub.New(hub.Config{})
			if err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go old.Serve(context.Background(), ln) // ends with Shutdown
			addr := ln.Addr().String()
			bob := dialWith(t, addr, 1, &client.Options{Version: 1})[0]
			events := make(chan client.Event, 100)
			var dialer addrDialer
			dialer.addr.Store(&addr)
			alice := dialWith(t, "", 1, &client.Options{Dial: dialer.dial, Resend: resend, OnEvent: func(e client.Event) {
				if e.Kind != client.EventReconnectFailed {
					events <- e
				}
			}})[0]
			dialer.addr.Store(nil)
			if err := old.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if e := <-events; e.Kind != client.EventDisconnected {
				t.Fatalf("event %v", e.Kind)
			}
			report := make(chan error, 1)
			if err := alice.Send(t.Context(), []uint64{bob.ID()}, []byte("for bob only")); err != nil {
				t.Fatal(err)
			}
			if err := alice.SendFunc(t.Context(), []uint64{bob.ID()}, []byte("this too"), nil, func(_ *client.Report, err error) { report <- err }); err != nil {
				t.Fatal(err)
			}

			_, addr = newHub(t)
			stranger := dialWith(t, addr, 1, &client.Options{Version: 1})[0]
			if stranger.ID() != bob.ID() {
				t.Fatalf("the new client is %d, and bob was %d", stranger.ID(), bob.ID())
			}
			dialer.addr.Store(&addr)
			if e := <-events; e.Kind != client.EventNewID || e.Unconfirmed != 1 {
				t.Errorf("event %v with %d unconfirmed, want 1", e.Kind, e.Unconfirmed)
			}
			if err := <-report; !errors.Is(err, client.ErrSessionLost) {
				t.Errorf("the report: %v, want %v", err, client.ErrSessionLost)
			}
			if err := alice.Send(t.Context(), []uint64{stranger.ID()}, []byte("to whom it is meant")); err != nil {
				t.Fatal(err)
			}
			if m, err := stranger.Receive(t.Context()); err != nil || string(m.Body) != "to whom it is meant" {
				t.Errorf("the new client received %q, %v", m.Body, err)
			}
		})
	}
}
