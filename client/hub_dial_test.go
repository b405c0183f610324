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

// deafConn is a connection on which Read blocks until it is closed.
type deafConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (d *deafConn) Read([]byte) (int, error) {
	<-d.closed
	return 0, net.ErrClosed
}

func (d *deafConn) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

// TestDial_CanceledLeavesNoClient cancels a Dial whose client the hub already lists. The hub
// must remove that client at once, not after a timeout.
func TestDial_CanceledLeavesNoClient(t *testing.T) {
	h, addr := newHubWith(t, hub.Config{ResumeWindow: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // ends with ctx
		for ctx.Err() == nil {
			if clients := h.Clients(0, 10); len(clients) == 1 && clients[0].Protocol == 2 {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	_, err := client.Dial(ctx, "", &client.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", addr)
		return &deafConn{Conn: nc, closed: make(chan struct{})}, err
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Dial returns %v, want %v", err, context.Canceled)
	}
	deadline := time.Now().Add(testTimeout)
	for {
		clients := h.Clients(0, 10)
		if len(clients) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still listed: %+v", clients)
		}
		time.Sleep(time.Millisecond)
	}
}
