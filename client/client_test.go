package client_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
)

// deaf is a connection of which nothing can be read before it is closed.
type deaf struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (d *deaf) Read([]byte) (int, error) {
	<-d.closed
	return 0, net.ErrClosed
}

func (d *deaf) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

// TestDial_GivenUpLeavesNothing ends the context of a Dial when the hub lists its client already: that is to be
// gone at once, not when the hub has waited for it in vain.
func TestDial_GivenUpLeavesNothing(t *testing.T) {
	h, addr := hubWith(t, hub.Config{ResumeWindow: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // ends with ctx at the latest
		for ctx.Err() == nil {
			if all := h.Clients(0, 10); len(all) == 1 && all[0].Protocol == 2 {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	_, err := client.Dial(ctx, "", &client.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", addr)
		return &deaf{Conn: nc, closed: make(chan struct{})}, err
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Dial returns %v, want %v", err, context.Canceled)
	}
	deadline := time.Now().Add(patience)
	for {
		all := h.Clients(0, 10)
		if len(all) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still listed: %+v", all)
		}
		time.Sleep(time.Millisecond)
	}
}
