package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestReconnect_AfterResumeWindow has a client that is disconnected for longer than the resume
// window.
func TestReconnect_AfterResumeWindow(t *testing.T) {
	for _, resend := range []bool{false, true} {
		t.Run(fmt.Sprintf("resend=%v", resend), func(t *testing.T) {
			_, addr := newHubWith(t, hub.Config{ResumeWindow: 50 * time.Millisecond})
			d := newFlakyDialer(addr)
			a := d.newClient(t, func(o *client.Options) { o.Resend = resend })
			b := dial(t, addr, 1)[0]
			first := a.ID()
			outcome := make(chan error, 1)
			err := a.SendFunc(t.Context(), []uint64{b.ID()}, []byte("reported"), &client.SendOptions{Level: wire.LevelProcessed},
				func(_ *client.Report, err error) { outcome <- err })
			if err != nil {
				t.Fatal(err)
			}
			m, err := b.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			d.setDown(true)
			d.wantEvent(t, client.EventDisconnected)
			waitLeft(t, b, first)
			if err := a.Send(t.Context(), []uint64{b.ID()}, []byte("sent while away")); err != nil {
				t.Fatal(err)
			}
			d.setDown(false)
			e := d.wantEvent(t, client.EventNewID, client.EventDisconnected)
			if e.ID == first || a.ID() != e.ID || e.Unconfirmed != 0 {
				t.Errorf("the event is %+v, the id was %d and is %d", e, first, a.ID())
			}
			want := []string{"sent while away"}
			if resend {
				want = []string{"reported", "sent while away"}
			} else if err := <-outcome; !errors.Is(err, client.ErrSessionLost) {
				t.Errorf("the report: %v, want %v", err, client.ErrSessionLost)
			}
			for _, want := range want {
				m, err = b.Receive(t.Context())
				if err != nil || string(m.Body) != want || m.From != e.ID {
					t.Errorf("received %q from %d, %v; want %q from %d", m.Body, m.From, err, want, e.ID)
				}
				m.Ack()
			}
			if resend {
				if err := <-outcome; err != nil {
					t.Errorf("the report of what was sent again: %v", err)
				}
			}
		})
	}
}

// TestReconnect_CountsUnconfirmed loses the connection while many messages wait for a receiver
// that does not read.
func TestReconnect_CountsUnconfirmed(t *testing.T) {
	h, addr := newHubWith(t, hub.Config{ResumeWindow: time.Millisecond, OutboxBytes: 4 << 10})
	d := newFlakyDialer(addr)
	a := d.newClient(t)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close() // reads only its id
	if _, err := nc.Write(wire.AppendIdentityRequest(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, wire.IdentityLen)); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for blocked := false; !blocked; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		blocked = a.Send(ctx, []uint64{2}, make([]byte, 60_000)) != nil
		cancel()
		sent++
	}
	d.setDown(true)
	d.wantEvent(t, client.EventDisconnected)
	waitUntil(t, "the hub no longer has the session", func() bool {
		_, known := h.Client(a.ID())
		return !known
	})
	d.setDown(false)
	if e := d.wantEvent(t, client.EventNewID); e.Unconfirmed < 1 || e.Unconfirmed > sent {
		t.Errorf("%d of %d messages are unconfirmed", e.Unconfirmed, sent)
	}
}
