package client_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
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

// droppingConn is a connection that drops every Write except the first.
type droppingConn struct {
	net.Conn
	written atomic.Bool
}

func (f *droppingConn) Write(b []byte) (int, error) {
	if f.written.Swap(true) {
		return len(b), nil
	}
	return f.Conn.Write(b)
}

// TestResume_FirstFramesLost loses a connection and all frames after HELLO, with the ACK of the
// WELCOME among them. The client must resume its session.
func TestResume_FirstFramesLost(t *testing.T) {
	_, addr := newHubWith(t, hub.Config{})
	var first atomic.Pointer[droppingConn]
	events := make(chan client.Event, 100)
	c, err := client.Dial(t.Context(), "", &client.Options{
		OnEvent: func(e client.Event) { events <- e },
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			nc, err := d.DialContext(ctx, "tcp", addr)
			if err == nil && first.Load() == nil {
				first.Store(&droppingConn{Conn: nc})
				return first.Load(), nil
			}
			return nc, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := c.ID()
	first.Load().Close()
	for e := range events {
		if e.Kind == client.EventResumed && e.ID == id {
			break
		}
		if e.Kind != client.EventDisconnected && e.Kind != client.EventReconnectFailed {
			t.Fatalf("event %v as %d (%v), want to resume as %d", e.Kind, e.ID, e.Err, id)
		}
	}
	if report, err := c.SendReport(t.Context(), []uint64{id}, []byte("to itself"), &client.SendOptions{Level: wire.LevelWritten}); err != nil || report.Fates[0] != wire.FateWritten {
		t.Errorf("report %+v, %v", report, err)
	}
}
