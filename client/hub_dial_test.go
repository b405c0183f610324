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
	dialed := make(chan error, 1)
	go func() { // ends with ctx
		_, err := client.Dial(ctx, "", &client.Options{Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			nc, err := d.DialContext(ctx, "tcp", addr)
			return &deafConn{Conn: nc, closed: make(chan struct{})}, err
		}})
		dialed <- err
	}()
	waitUntil(t, "the hub lists the client", func() bool {
		clients := h.Clients(0, 10)
		return len(clients) == 1 && clients[0].Protocol == 2
	})
	cancel()
	if err := <-dialed; !errors.Is(err, context.Canceled) {
		t.Errorf("Dial returns %v, want %v", err, context.Canceled)
	}
	waitUntil(t, "the hub no longer lists the client", func() bool { return len(h.Clients(0, 10)) == 0 })
}
